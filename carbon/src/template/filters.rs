//! Filters: what real templates use, and the plain ones around them. A filter that jinjava does not know gives null.

use std::sync::Arc;

use super::eval::Interpreter;
use super::ops::{self, Evaluated, Fault, too_large};
use super::val::{self, DEPTH_MAX, TEXT_MAX, Val};
use super::{ITEMS_MAX, methods};
use crate::java;
use crate::work::Work;

/// Applies `input|name(arguments)`.
pub fn apply(interpreter: &mut Interpreter<'_>, name: &str, input: &Val, arguments: &[Val]) -> Evaluated {
    interpreter.count_round()?;
    let work = interpreter.work;
    work.take_bytes(weight(input))?;
    let text = |value: &Val| ops::print(value, work);
    let owned = |text: String| Ok(Val::Text(Arc::from(text)));
    let int = |value: usize| Ok(Val::Int(i32::try_from(value).unwrap_or(i32::MAX)));
    match name {
        "default" | "d" => default(interpreter, input, arguments),
        "join" => join(input, arguments, work),
        "length" | "count" => int(length(input)),
        "string" => Ok(Val::Text(text(input)?)),
        "lower" => Ok(mapped(input, str::to_lowercase)),
        "upper" => Ok(mapped(input, str::to_uppercase)),
        "trim" => owned(text(input)?.trim_matches(|c: char| c <= ' ').to_owned()),
        "capitalize" => Ok(mapped(input, capitalize)),
        "list" => list(input, work),
        "map" => map(interpreter, input, arguments),
        "tojson" => {
            let mut out = String::new();
            json(input, &mut out, 0, work)?;
            owned(out)
        }
        "first" => Ok(input.loop_items(work)?.into_iter().next().unwrap_or(Val::Null)),
        "last" => Ok(input.loop_items(work)?.into_iter().next_back().unwrap_or(Val::Null)),
        "replace" if !input.is_null() => replace(input, arguments, work),
        "split" => {
            let separator = argument(arguments, 0, work)?;
            let separator = separator.as_deref().unwrap_or(" ");
            let parts = text(input)?;
            let parts = parts.split(separator).map(str::trim).filter(|part| !part.is_empty());
            made(parts.map(Val::text), work)
        }
        "int" => Ok(integer(input, arguments, work)?),
        "float" => Ok(Val::Double(ops::to_double(input, work).unwrap_or(0.0))),
        "abs" => match input {
            Val::Double(value) => Ok(Val::Double(value.abs())),
            other => Ok(Val::Long(ops::to_long(other, work)?.wrapping_abs())),
        },
        "bool" => Ok(Val::Bool(input.truthy())),
        "safe" => Ok(input.clone()),
        "reverse" => {
            let mut items = input.loop_items(work)?;
            items.reverse();
            Ok(Val::list(items))
        }
        "unique" => unique(input, work),
        "sort" => sort(input, work),
        "sum" => sum(input, work),
        "escape" | "e" => owned(escape(&ops::to_text(input, work)?)),
        _ => Ok(Val::Null),
    }
}

/// Only null is replaced, and the replacement becomes text unless it is a list or map.
fn default(interpreter: &Interpreter<'_>, input: &Val, arguments: &[Val]) -> Evaluated {
    let mut positional = arguments.iter().filter(|argument| !matches!(argument, Val::Named(_)));
    let named = |name: &str| {
        arguments.iter().find_map(|argument| match argument {
            Val::Named(pair) if *pair.0 == *name => Some(&pair.1),
            _ => None,
        })
    };
    let replacement = positional.next().or_else(|| named("default_value"));
    let Some(replacement) = replacement else {
        return Err(Fault(
            "Syntax error in 'default': requires either 1 (default value to use) or 2 (default value to use, default \
             with variables that evaluate to false) arguments"
                .into(),
        ));
    };
    let by_truth = positional.next().or_else(|| named("truthy")).is_some_and(Val::truthy);
    if if by_truth { input.truthy() } else { !input.is_null() } {
        return Ok(input.clone());
    }
    match replacement {
        Val::List(_) | Val::Map(_) | Val::Namespace(_) => Ok(replacement.clone()),
        Val::Null if interpreter.dialect.keeps_null_default() => Ok(Val::Null),
        other => Ok(Val::Text(ops::print(other, interpreter.work)?)),
    }
}

fn argument(arguments: &[Val], n: usize, work: &Work) -> Evaluated<Option<Arc<str>>> {
    match arguments.get(n) {
        None | Some(Val::Null) => Ok(None),
        Some(Val::Named(pair)) => ops::print(&pair.1, work).map(Some),
        Some(value) => ops::print(value, work).map(Some),
    }
}

fn join(input: &Val, arguments: &[Val], work: &Work) -> Evaluated {
    // A missing separator is nothing; a null one is the word, as Java appends it.
    let separator = match arguments.first() {
        Some(Val::Null) => Arc::from("null"),
        _ => argument(arguments, 0, work)?.unwrap_or_else(|| Arc::from("")),
    };
    let attribute = argument(arguments, 1, work)?;
    let mut out = String::new();
    for (n, item) in input.loop_items(work)?.iter().enumerate() {
        if n > 0 {
            out.push_str(&separator);
        }
        let value = match &attribute {
            Some(name) => methods::attribute(item, name),
            None => item.clone(),
        };
        let text = ops::to_text(&value, work)?;
        work.take_bytes(separator.len() + text.len())?;
        out.push_str(&text);
        if TEXT_MAX < out.len() {
            return Err(too_large());
        }
    }
    Ok(Val::Text(Arc::from(out)))
}

fn length(input: &Val) -> usize {
    match input {
        Val::List(cell) | Val::Array(cell) => cell.0.borrow().len(),
        Val::Map(cell) | Val::Namespace(cell) => cell.0.borrow().len(),
        Val::Text(text) => text.encode_utf16().count(),
        _ => 0,
    }
}

fn mapped(input: &Val, change: impl Fn(&str) -> String) -> Val {
    match input {
        Val::Text(text) => Val::Text(Arc::from(change(text))),
        other => other.clone(),
    }
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn list(input: &Val, work: &Work) -> Evaluated {
    Ok(match input {
        Val::Null => Val::Null,
        Val::Text(text) => return made(text.chars().map(|c| Val::text(c.encode_utf8(&mut [0; 4]))), work),
        Val::List(cell) | Val::Array(cell) => Val::list(cell.items(work)?),
        other => Val::list(vec![other.clone()]),
    })
}

fn map(interpreter: &mut Interpreter<'_>, input: &Val, arguments: &[Val]) -> Evaluated {
    let work = interpreter.work;
    let items = input.loop_items(work)?;
    let attribute = arguments.iter().find_map(|argument| match argument {
        Val::Named(pair) if &*pair.0 == "attribute" => Some(&pair.1),
        _ => None,
    });
    if let Some(attribute) = attribute {
        let path = ops::print(attribute, work)?;
        return Ok(Val::list(items.iter().map(|item| methods::attribute(item, &path)).collect()));
    }
    let Some(name) = argument(arguments, 0, work)? else {
        return Err(Fault("Syntax error in 'map': requires 1 argument (name of filter or attribute)".into()));
    };
    let mut mapped = Vec::with_capacity(items.len());
    for item in &items {
        let value = if is_known(&name) {
            apply(interpreter, &name, item, &arguments[1..])?
        } else {
            methods::attribute(item, &name)
        };
        mapped.push(value);
    }
    Ok(Val::list(mapped))
}

/// Names that `map` takes for a filter; every other is an attribute. `map` in `map` is left out: it would recurse.
fn is_known(name: &str) -> bool {
    matches!(
        name,
        "default"
            | "d"
            | "join"
            | "length"
            | "count"
            | "string"
            | "lower"
            | "upper"
            | "trim"
            | "capitalize"
            | "list"
            | "tojson"
            | "first"
            | "last"
            | "replace"
            | "split"
            | "int"
            | "float"
            | "abs"
            | "bool"
            | "safe"
            | "reverse"
            | "unique"
            | "sort"
            | "sum"
            | "escape"
            | "e"
    )
}

fn replace(input: &Val, arguments: &[Val], work: &Work) -> Evaluated {
    let (Some(from), Some(to)) = (argument(arguments, 0, work)?, argument(arguments, 1, work)?) else {
        return Err(Fault("Syntax error in 'replace': requires 2 arguments".into()));
    };
    let text = ops::print(input, work)?;
    if from.is_empty() {
        return Ok(Val::Text(text));
    }
    if TEXT_MAX < text.len().saturating_mul(to.len().max(1)) && from.len() < to.len() {
        return Err(too_large());
    }
    let replaced = match arguments.get(2) {
        Some(count) => {
            text.replacen(&*from, &to, usize::try_from(ops::to_long(count, work)?).unwrap_or(usize::MAX))
        }
        None => text.replace(&*from, &to),
    };
    work.take_bytes(text.len() + replaced.len())?;
    Ok(Val::Text(Arc::from(replaced)))
}

fn integer(input: &Val, arguments: &[Val], work: &Work) -> Evaluated {
    let fallback = match arguments.first() {
        Some(value) => ops::to_long(value, work).unwrap_or(0),
        None => 0,
    };
    let number = match input {
        Val::Null => fallback,
        Val::Text(text) => {
            let digits = text.trim().replace(',', "");
            digits.parse::<f64>().map_or(fallback, |number| number as i64)
        }
        other => ops::to_long(other, work).unwrap_or(fallback),
    };
    Ok(i32::try_from(number).map_or(Val::Long(number), Val::Int))
}

fn unique(input: &Val, work: &Work) -> Evaluated {
    let mut kept: Vec<Val> = Vec::new();
    for item in input.loop_items(work)? {
        if val::position(&kept, &item, work)?.is_none() {
            kept.push(item);
        }
    }
    Ok(Val::list(kept))
}

fn sort(input: &Val, work: &Work) -> Evaluated {
    let mut keyed = Vec::new();
    for item in input.loop_items(work)? {
        let key: (f64, Arc<str>) = match &item {
            Val::Int(_) | Val::Long(_) | Val::Double(_) => (ops::to_double(&item, work)?, Arc::from("")),
            // Texts sort without regard to case.
            other => {
                let text = ops::to_text(other, work)?;
                work.take_bytes(text.len())?;
                (0.0, Arc::from(text.to_lowercase()))
            }
        };
        keyed.push((key, item));
    }
    // Comparing equal long texts is what sorting costs; a list has less than 2^20 items.
    let bytes: usize = keyed.iter().map(|((_, text), _)| text.len()).sum();
    work.take_bytes(bytes.saturating_mul(20))?;
    keyed.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    Ok(Val::list(keyed.into_iter().map(|(_, item)| item).collect()))
}

fn sum(input: &Val, work: &Work) -> Evaluated {
    let mut total = Val::Long(0);
    for item in input.loop_items(work)?.iter().take(ITEMS_MAX) {
        total = ops::apply(super::expr::Operator::Add, &total, item, work)?;
    }
    Ok(total)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Compact JSON as Jackson writes it.
fn json(value: &Val, out: &mut String, depth: usize, work: &Work) -> Evaluated<()> {
    if DEPTH_MAX < depth || TEXT_MAX < out.len() {
        return Err(too_large());
    }
    let before = out.len();
    match value {
        Val::Null => out.push_str("null"),
        Val::Bool(_) | Val::Int(_) | Val::Long(_) => value.print(out, depth, work)?,
        Val::Double(number) if number.is_finite() => out.push_str(&java::double_to_string(*number)),
        Val::Double(_) | Val::Time(_) | Val::Loop(_) => json_text(&value.to_java_string(work), out),
        Val::Text(text) => json_text(text, out),
        Val::List(cell) | Val::Array(cell) => {
            out.push('[');
            for (n, item) in cell.0.borrow().iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                json(item, out, depth + 1, work)?;
            }
            out.push(']');
            return Ok(work.take(1)?);
        }
        Val::Map(cell) | Val::Namespace(cell) => {
            out.push('{');
            for (n, (key, item)) in cell.0.borrow().iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                json_entry((key, item), out, depth, work)?;
            }
            out.push('}');
            return Ok(work.take(1)?);
        }
        Val::Pair(pair) | Val::Named(pair) => {
            out.push('{');
            json_entry((&pair.0, &pair.1), out, depth, work)?;
            out.push('}');
            return Ok(());
        }
    }
    Ok(work.take_bytes(out.len() - before)?)
}

fn json_entry((key, item): (&str, &Val), out: &mut String, depth: usize, work: &Work) -> Evaluated<()> {
    json_text(key, out);
    out.push(':');
    work.take_bytes(key.len())?;
    json(item, out, depth + 1, work)
}

/// What reading all of a value's own text would be worth; what is in a list or map counts where it is read.
fn weight(value: &Val) -> usize {
    match value {
        Val::Text(text) => text.len(),
        _ => 0,
    }
}

/// A list of so many new items that each is to be paid for.
fn made(items: impl Iterator<Item = Val>, work: &Work) -> Evaluated {
    let items = items.map(|item| work.take(1).map(|()| item)).collect::<Result<Vec<Val>, _>>()?;
    if ITEMS_MAX < items.len() { Err(too_large()) } else { Ok(Val::list(items)) }
}

fn json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
}
