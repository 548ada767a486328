//! Attributes, method calls and tests on values: Java's and Python's names side by side, as jinjava offers them.

use std::rc::Rc;
use std::sync::Arc;

use super::ITEMS_MAX;
use super::eval::Interpreter;
use super::ops::{self, Evaluated, Fault, too_large};
use super::val::{self, ListCell, LoopState, Val};
use crate::java;
use crate::work::Work;

/// `base.name` and `base["name"]`. What is not there is null.
pub fn attribute(base: &Val, name: &str) -> Val {
    match base {
        Val::Map(cell) | Val::Namespace(cell) => cell.0.borrow().get(name).cloned().unwrap_or(Val::Null),
        Val::List(cell) | Val::Array(cell) => item(cell, name),
        Val::Pair(pair) => match name {
            "key" => Val::Text(Arc::clone(&pair.0)),
            "value" => pair.1.clone(),
            _ => Val::Null,
        },
        Val::Loop(state) => loop_attribute(state, name),
        _ => Val::Null,
    }
}

fn item(cell: &ListCell, name: &str) -> Val {
    let Ok(index) = name.parse::<i64>() else { return Val::Null };
    let items = cell.0.borrow();
    let index = if index < 0 { index + items.len() as i64 } else { index };
    usize::try_from(index).ok().and_then(|index| items.get(index)).cloned().unwrap_or(Val::Null)
}

fn loop_attribute(state: &LoopState, name: &str) -> Val {
    let number = |value: usize| Val::Int(i32::try_from(value).unwrap_or(i32::MAX));
    let left = state.length - state.index0 - 1;
    match name {
        "index" | "counter" => number(state.index0 + 1),
        "index0" => number(state.index0),
        "first" => Val::Bool(state.index0 == 0),
        "last" => Val::Bool(left == 0),
        "length" => number(state.length),
        "revindex" | "revcounter" => number(left + 1),
        "revindex0" => number(left),
        "depth" => number(1),
        "depth0" => number(0),
        _ => Val::Null,
    }
}

/// `base.name(arguments)`; `base` is not null.
pub fn invoke(interpreter: &mut Interpreter<'_>, base: &Val, name: &str, arguments: &[Val]) -> Evaluated {
    interpreter.count_round()?;
    let work = interpreter.work;
    let outcome = match base {
        Val::List(cell) => list_method(cell, name, arguments, work)?,
        Val::Array(cell) => array_method(cell, name, arguments, work)?,
        Val::Map(cell) | Val::Namespace(cell) => {
            let same =
                matches!(arguments, [.., Val::Map(other) | Val::Namespace(other)] if Rc::ptr_eq(other, cell));
            map_method(cell, (name, arguments), same, work)?
        }
        Val::Text(text) => text_method(text, name, arguments, work)?,
        Val::Pair(pair) => match name {
            "getKey" => Some(Val::Text(Arc::clone(&pair.0))),
            "getValue" => Some(pair.1.clone()),
            _ => None,
        },
        Val::Loop(state) if name == "cycle" && !arguments.is_empty() => {
            Some(arguments[state.index0 % arguments.len()].clone())
        }
        _ => None,
    };
    let outcome = match (outcome, name, arguments) {
        (Some(value), ..) => return Ok(value),
        (None, "toString", []) => Some(Val::Text(ops::print(base, work)?)),
        (None, "equals", [other]) => Some(Val::Bool(base.java_equals(other, 0, work)?)),
        _ => None,
    };
    outcome.ok_or_else(|| {
        let (count, class) = (arguments.len(), base.class_name());
        Fault(format!("Cannot find method {name} with {count} parameters in class {class}"))
    })
}

fn index_of(items: &[Val], wanted: &Val, work: &Work) -> Evaluated<i32> {
    let found = val::position(items, wanted, work)?;
    Ok(found.map_or(-1, |index| i32::try_from(index).unwrap_or(i32::MAX)))
}

fn list_method(cell: &Rc<ListCell>, name: &str, arguments: &[Val], work: &Work) -> Evaluated<Option<Val>> {
    // What moves items moves up to all of them.
    if matches!(name, "insert" | "add" | "remove" | "pop" | "clear" | "reverse" | "copy") {
        work.take(1 + cell.0.borrow().len() / val::MOVED)?;
    }
    if ITEMS_MAX <= cell.0.borrow().len() && matches!(name, "append" | "add" | "extend" | "addAll" | "insert")
    {
        return Err(too_large());
    }
    let value = match (name, arguments) {
        ("toList", []) => Val::List(Rc::clone(cell)),
        ("append", [Val::List(other)]) if Rc::ptr_eq(cell, other) => Val::Bool(false),
        ("append" | "add", [value]) => {
            cell.0.borrow_mut().push(value.clone());
            Val::Bool(true)
        }
        ("insert" | "add", [at, value]) => {
            let length = cell.0.borrow().len() as i64;
            let at = ops::to_long(at, work)?;
            let at = if at < 0 { (length + at).max(0) } else { at };
            if length <= at {
                return Err(Fault(format!("Index {at} is out of range for list of size {length}")));
            }
            cell.0.borrow_mut().insert(at as usize, value.clone());
            Val::Null
        }
        ("extend" | "addAll", [Val::List(other) | Val::Array(other)]) => {
            let items = other.items(work)?;
            if ITEMS_MAX < items.len() + cell.0.borrow().len() {
                return Err(too_large());
            }
            cell.0.borrow_mut().extend(items);
            Val::Bool(true)
        }
        ("pop", []) => cell.0.borrow_mut().pop().unwrap_or(Val::Null),
        ("pop", [at]) => remove_at(cell, ops::to_long(at, work)?),
        ("remove", [at @ (Val::Int(_) | Val::Long(_))]) => remove_at(cell, ops::to_long(at, work)?),
        ("remove", [value]) => {
            let at = index_of(&cell.0.borrow(), value, work)?;
            if let Ok(at) = usize::try_from(at) {
                cell.0.borrow_mut().remove(at);
            }
            Val::Bool(0 <= at)
        }
        ("clear", []) => {
            cell.0.borrow_mut().clear();
            Val::Null
        }
        ("reverse", []) => {
            cell.0.borrow_mut().reverse();
            Val::Null
        }
        ("copy", []) => Val::list(cell.items(work)?),
        ("count", [value]) => {
            let mut count = 0;
            for item in cell.0.borrow().iter() {
                count += i64::from(item.java_equals(value, 0, work)?);
            }
            Val::Long(count)
        }
        ("index" | "indexOf", [value]) => Val::Int(index_of(&cell.0.borrow(), value, work)?),
        _ => return array_method(cell, name, arguments, work),
    };
    Ok(Some(value))
}

fn remove_at(cell: &ListCell, at: i64) -> Val {
    let mut items = cell.0.borrow_mut();
    let at = if at < 0 { at + items.len() as i64 } else { at };
    match usize::try_from(at) {
        Ok(at) if at < items.len() => items.remove(at),
        _ => Val::Null,
    }
}

fn array_method(cell: &ListCell, name: &str, arguments: &[Val], work: &Work) -> Evaluated<Option<Val>> {
    let items = cell.0.borrow();
    Ok(Some(match (name, arguments) {
        ("contains", [value]) => Val::Bool(val::position(&items, value, work)?.is_some()),
        ("size", []) => Val::Int(i32::try_from(items.len()).unwrap_or(i32::MAX)),
        ("isEmpty", []) => Val::Bool(items.is_empty()),
        ("get", [at]) => {
            let at = ops::to_long(at, work)?;
            match usize::try_from(at).ok().and_then(|at| items.get(at)) {
                Some(value) => value.clone(),
                None => {
                    return Err(Fault(format!("Index {at} out of bounds for length {}", items.len())));
                }
            }
        }
        _ => return Ok(None),
    }))
}

fn map_method(
    cell: &super::val::MapCell,
    (name, arguments): (&str, &[Val]),
    with_itself: bool,
    work: &Work,
) -> Evaluated<Option<Val>> {
    if with_itself && matches!(name, "put" | "update" | "putAll") {
        return Err(Fault("Can't update map object with itself".into()));
    }
    if matches!(name, "items" | "entrySet" | "keys" | "keySet" | "values" | "remove" | "pop") {
        work.take(1 + cell.0.borrow().len())?;
    }
    let value = match (name, arguments) {
        ("items" | "entrySet", []) => {
            let entries = cell.0.borrow();
            let pair = |(key, value): (&Arc<str>, &Val)| Val::Pair(Rc::new((Arc::clone(key), value.clone())));
            Val::array(entries.iter().map(pair).collect())
        }
        ("keys" | "keySet", []) => {
            Val::array(cell.0.borrow().iter().map(|(key, _)| Val::Text(Arc::clone(key))).collect())
        }
        ("values", []) => Val::array(cell.0.borrow().iter().map(|(_, value)| value.clone()).collect()),
        ("get", [key]) => cell.0.borrow().get(&ops::to_text(key, work)?).cloned().unwrap_or(Val::Null),
        ("getOrDefault", [key, default]) => {
            cell.0.borrow().get(&ops::to_text(key, work)?).cloned().unwrap_or_else(|| default.clone())
        }
        ("containsKey", [key]) => Val::Bool(cell.0.borrow().contains_key(&ops::to_text(key, work)?)),
        ("containsValue", [value]) => {
            let mut found = false;
            for (_, other) in cell.0.borrow().iter() {
                found = found || other.java_equals(value, 0, work)?;
            }
            Val::Bool(found)
        }
        ("size", []) => Val::Int(i32::try_from(cell.0.borrow().len()).unwrap_or(i32::MAX)),
        ("isEmpty", []) => Val::Bool(cell.0.borrow().is_empty()),
        ("put", [key, value]) => {
            if ITEMS_MAX <= cell.0.borrow().len() {
                return Err(too_large());
            }
            let key = ops::to_text(key, work)?;
            let old = cell.0.borrow().get(&key).cloned().unwrap_or(Val::Null);
            cell.0.borrow_mut().put(key, value.clone());
            old
        }
        ("remove" | "pop", [key]) => {
            cell.0.borrow_mut().remove(&ops::to_text(key, work)?).unwrap_or(Val::Null)
        }
        ("update" | "putAll", [Val::Map(other) | Val::Namespace(other)]) => {
            let entries: Vec<_> = other.0.borrow().iter().map(|(k, v)| (Arc::clone(k), v.clone())).collect();
            let mut map = cell.0.borrow_mut();
            work.take(8 * entries.len())?;
            if ITEMS_MAX < entries.len() + map.len() {
                return Err(too_large());
            }
            entries.into_iter().for_each(|(key, value)| map.put(key, value));
            Val::Null
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn text_method(text: &Arc<str>, name: &str, arguments: &[Val], work: &Work) -> Evaluated<Option<Val>> {
    work.take_bytes(text.len())?;
    let texts =
        arguments.iter().map(|argument| ops::to_text(argument, work)).collect::<Evaluated<Vec<_>>>()?;
    let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
    let int = |value: usize| Val::Int(i32::try_from(value).unwrap_or(i32::MAX));
    let owned = |text: String| Val::Text(Arc::from(text));
    Ok(Some(match (name, &texts[..]) {
        ("split", [separator, ..]) => split(text, separator, work)?,
        ("contains", [part]) => Val::Bool(text.contains(part)),
        ("startsWith", [part]) => Val::Bool(text.starts_with(part)),
        ("endsWith", [part]) => Val::Bool(text.ends_with(part)),
        ("isEmpty", []) => Val::Bool(text.is_empty()),
        ("isBlank", []) => Val::Bool(text.trim().is_empty()),
        ("length", []) => int(text.encode_utf16().count()),
        ("trim" | "strip", []) => owned(text.trim().to_owned()),
        ("toLowerCase", []) => owned(text.to_lowercase()),
        ("toUpperCase", []) => owned(text.to_uppercase()),
        ("equalsIgnoreCase", [other]) => Val::Bool(text.to_lowercase() == other.to_lowercase()),
        ("indexOf", [part]) => {
            text.find(part).map_or(Val::Int(-1), |at| int(text[..at].encode_utf16().count()))
        }
        ("lastIndexOf", [part]) => {
            text.rfind(part).map_or(Val::Int(-1), |at| int(text[..at].encode_utf16().count()))
        }
        ("concat", _) if arguments.len() == 1 => ops::concat(text, texts[0], work)?,
        ("replace", [from, to]) => {
            let growth = text.len().saturating_add(text.len().saturating_mul(to.len()));
            if super::val::TEXT_MAX < growth && from.len() < to.len() {
                return Err(too_large());
            }
            let replaced = text.replace(from, to);
            work.take_bytes(replaced.len())?;
            owned(replaced)
        }
        ("substring", [_]) => substring(text, ops::to_long(&arguments[0], work)?, i64::MAX)?,
        ("substring", [_, _]) => {
            substring(text, ops::to_long(&arguments[0], work)?, ops::to_long(&arguments[1], work)?)?
        }
        _ => return Ok(None),
    }))
}

/// `String.split(regex)`. Separators of real templates are plain characters; others are tried as a regex.
fn split(text: &str, separator: &str, work: &Work) -> Evaluated {
    let mut chars = separator.chars();
    let plain = match (chars.next(), chars.next(), chars.next()) {
        (Some(c), None, _) if !".$|()[{^?*+\\".contains(c) => Some(c),
        (Some('\\'), Some(c), None) if !c.is_ascii_alphanumeric() => Some(c),
        _ => None,
    };
    let mut parts: Vec<&str> = match plain {
        Some(c) => java::split(text, c),
        None => {
            // Compiling costs more than looking, and looking at most text times expression.
            work.take(1_000 + separator.len().saturating_mul(100 + text.len() / 16))?;
            match java::regex(separator) {
                Some(pattern) => pattern.split(text).take(ITEMS_MAX + 1).collect(),
                None => vec![text],
            }
        }
    };
    if plain.is_none() && parts.len() > 1 {
        while parts.last().is_some_and(|part| part.is_empty()) {
            parts.pop();
        }
    }
    work.take(parts.len())?;
    if ITEMS_MAX < parts.len() {
        return Err(too_large());
    }
    Ok(Val::array(parts.into_iter().map(Val::text).collect()))
}

fn substring(text: &str, from: i64, to: i64) -> Evaluated {
    let units: Vec<u16> = text.encode_utf16().collect();
    let length = units.len() as i64;
    let to = if to == i64::MAX { length } else { to };
    if from < 0 || length < to || to < from {
        return Err(Fault(format!("begin {from}, end {to}, length {length}")));
    }
    Ok(Val::Text(Arc::from(String::from_utf16_lossy(&units[from as usize..to as usize]))))
}

/// `base[first:last]`.
pub fn slice(base: &Val, first: &Val, last: &Val, work: &Work) -> Evaluated {
    let bounds = |length: usize| -> Evaluated<(usize, usize)> {
        let at = |value: &Val, default: usize| -> Evaluated<usize> {
            if value.is_null() {
                return Ok(default);
            }
            let index = ops::to_long(value, work)?;
            let index = if index < 0 { index.saturating_add(length as i64) } else { index };
            Ok(index.clamp(0, length as i64) as usize)
        };
        let (first, last) = (at(first, 0)?, at(last, length)?);
        Ok((first, last.max(first)))
    };
    match base {
        Val::List(cell) | Val::Array(cell) => {
            let items = cell.0.borrow();
            let (first, last) = bounds(items.len())?;
            work.take(last - first)?;
            Ok(Val::list(items[first..last].to_vec()))
        }
        Val::Text(text) => {
            work.take_bytes(4 * text.len())?;
            let chars: Vec<char> = text.chars().collect();
            let (first, last) = bounds(chars.len())?;
            Ok(Val::Text(Arc::from(chars[first..last].iter().collect::<String>())))
        }
        _ => Ok(Val::Null),
    }
}

/// `input is name`. Unknown tests are null.
pub fn test(name: &str, input: &Val, argument: Option<&Val>, work: &Work) -> Evaluated<Option<bool>> {
    work.take(1)?;
    let needed = || argument.ok_or_else(|| Fault(format!("Syntax error in '{name}': requires 1 argument")));
    let operator =
        |operator| -> Evaluated<bool> { Ok(ops::apply(operator, input, needed()?, work)?.truthy()) };
    use super::expr::Operator;
    Ok(Some(match name {
        "defined" => !input.is_null(),
        "undefined" | "none" => input.is_null(),
        "string" => matches!(input, Val::Text(_)),
        "number" => matches!(input, Val::Int(_) | Val::Long(_) | Val::Double(_)),
        "integer" => matches!(input, Val::Int(_) | Val::Long(_)),
        "float" => matches!(input, Val::Double(_)),
        "boolean" => matches!(input, Val::Bool(_)),
        "mapping" => matches!(input, Val::Map(_) | Val::Namespace(_)),
        "iterable" | "sequence" => matches!(input, Val::List(_) | Val::Array(_)),
        "true" => matches!(input, Val::Bool(true)),
        "false" => matches!(input, Val::Bool(false)),
        "truthy" => input.truthy(),
        "sameas" => input.same_as(needed()?),
        "even" => ops::to_long(input, work)? % 2 == 0,
        "odd" => ops::to_long(input, work)? % 2 != 0,
        "divisibleby" => {
            let divisor = ops::to_long(needed()?, work)?;
            divisor != 0 && ops::to_long(input, work)?.checked_rem(divisor).unwrap_or(0) == 0
        }
        "lower" => cased(input, work, str::to_lowercase)?,
        "upper" => cased(input, work, str::to_uppercase)?,
        "equalto" | "eq" | "==" => operator(Operator::Equal)?,
        "ne" | "!=" => operator(Operator::NotEqual)?,
        "lt" | "lessthan" | "<" => operator(Operator::Less)?,
        "le" | "<=" => operator(Operator::LessOrEqual)?,
        "gt" | "greaterthan" | ">" => operator(Operator::Greater)?,
        "ge" | ">=" => operator(Operator::GreaterOrEqual)?,
        "in" | "within" => ops::contains(input, needed()?, work)?,
        "containing" => ops::contains(needed()?, input, work)?,
        "containingall" => {
            let wanted = needed()?.loop_items(work)?;
            let mut all = !input.is_null();
            for item in &wanted {
                all = all && ops::contains(item, input, work)?;
            }
            all
        }
        "string_containing" => match (input, needed()?) {
            (Val::Text(text), part) if !part.is_null() => {
                work.take_bytes(text.len())?;
                text.contains(&*ops::to_text(part, work)?)
            }
            _ => false,
        },
        "string_startingwith" => match (input, needed()?) {
            (Val::Text(text), part) if !part.is_null() => text.starts_with(&*ops::to_text(part, work)?),
            _ => false,
        },
        _ => return Ok(None),
    }))
}

fn cased(input: &Val, work: &Work, change: fn(&str) -> String) -> Evaluated<bool> {
    let Val::Text(text) = input else { return Ok(false) };
    work.take_bytes(text.len())?;
    Ok(**text == *change(text))
}
