//! Operators of the expression language (JUEL with jinjava's conversions).

use std::cmp::Ordering;
use std::sync::Arc;

use super::expr::Operator;
use super::val::{self, Val};
use crate::work::{Exhausted, WORK_MAX, Work};

/// What ends an evaluation: the engine's message.
#[derive(Debug, Clone)]
pub struct Fault(pub String);

impl From<Exhausted> for Fault {
    fn from(_: Exhausted) -> Self {
        Self(format!("values and templates take more than {WORK_MAX} units of work"))
    }
}

pub type Evaluated<T = Val> = Result<T, Fault>;

/// Refuses texts that this program will not build.
pub fn too_large() -> Fault {
    Fault("a value of the template is too large or nests too deep".into())
}

pub fn apply(operator: Operator, left: &Val, right: &Val, work: &Work) -> Evaluated {
    work.take(1)?;
    let bool = |value: bool| Ok(Val::Bool(value));
    match operator {
        Operator::Add => add(left, right, work),
        Operator::Concat => concat(&to_text(left, work)?, &to_text(right, work)?, work),
        Operator::Subtract => arithmetic((left, right), (i64::wrapping_sub, |a, b| a - b), work),
        Operator::Multiply => arithmetic((left, right), (i64::wrapping_mul, |a, b| a * b), work),
        Operator::Divide if left.is_null() && right.is_null() => Ok(Val::Long(0)),
        Operator::Divide => Ok(Val::Double(to_double(left, work)? / to_double(right, work)?)),
        Operator::FloorDivide => floor_divide(left, right, work),
        Operator::Modulo => modulo(left, right, work),
        Operator::Power => power(left, right, work),
        Operator::Equal => bool(equal(left, right, work)?),
        Operator::NotEqual => bool(!equal(left, right, work)?),
        Operator::Less => bool(!left.same_as(right) && !either_null(left, right) && less(left, right, work)?),
        Operator::Greater => {
            bool(!left.same_as(right) && !either_null(left, right) && less(right, left, work)?)
        }
        Operator::LessOrEqual => {
            bool(left.same_as(right) || (!either_null(left, right) && !less(right, left, work)?))
        }
        Operator::GreaterOrEqual => {
            bool(left.same_as(right) || (!either_null(left, right) && !less(left, right, work)?))
        }
        Operator::In => bool(contains(left, right, work)?),
        Operator::NotIn => bool(!contains(left, right, work)?),
    }
}

fn either_null(left: &Val, right: &Val) -> bool {
    left.is_null() || right.is_null()
}

/// Null is the empty text.
pub fn to_text(value: &Val, work: &Work) -> Evaluated<Arc<str>> {
    if value.is_null() {
        return Ok(Arc::from(""));
    }
    value.try_to_string(work)
}

/// `Objects.toString`: null is `null`.
pub fn print(value: &Val, work: &Work) -> Evaluated<Arc<str>> {
    value.try_to_string(work)
}

pub fn concat(left: &str, right: &str, work: &Work) -> Evaluated {
    if super::val::TEXT_MAX < left.len() + right.len() {
        return Err(too_large());
    }
    work.take_bytes(left.len() + right.len())?;
    Ok(Val::Text(Arc::from(format!("{left}{right}"))))
}

fn add(left: &Val, right: &Val, work: &Work) -> Evaluated {
    match (left, right) {
        (Val::List(a) | Val::Array(a), _) => {
            let mut items = a.items(work)?;
            match right {
                Val::List(b) | Val::Array(b) => items.extend(b.items(work)?),
                other => items.push(other.clone()),
            }
            if super::ITEMS_MAX < items.len() {
                return Err(too_large());
            }
            Ok(Val::list(items))
        }
        (Val::Map(a), Val::Map(b)) => {
            let mut entries = crate::value::Ordered::default();
            // Java makes a hash map of the sum.
            let mut hash = crate::java::JavaHashMap::default();
            work.take(16 * (a.0.borrow().len() + b.0.borrow().len()))?;
            for (key, value) in a.0.borrow().iter().chain(b.0.borrow().iter()) {
                hash.put(Arc::clone(key), value.clone());
            }
            for (key, value) in hash.iter() {
                entries.put(Arc::clone(key), value.clone());
            }
            Ok(Val::map(entries))
        }
        (Val::Text(_), _) | (_, Val::Text(_)) => concat(&print(left, work)?, &print(right, work)?, work),
        _ => arithmetic((left, right), (i64::wrapping_add, |a, b| a + b), work),
    }
}

fn is_float(value: &Val) -> bool {
    match value {
        Val::Double(_) => true,
        Val::Text(text) => text.contains(['.', 'e', 'E']),
        _ => false,
    }
}

/// An operation on whole numbers, and the same on others.
type Whole = fn(i64, i64) -> i64;
type Real = fn(f64, f64) -> f64;

fn arithmetic((left, right): (&Val, &Val), (whole, real): (Whole, Real), work: &Work) -> Evaluated {
    if left.is_null() && right.is_null() {
        return Ok(Val::Long(0));
    }
    if is_float(left) || is_float(right) {
        return Ok(Val::Double(real(to_double(left, work)?, to_double(right, work)?)));
    }
    Ok(Val::Long(whole(to_long(left, work)?, to_long(right, work)?)))
}

fn modulo(left: &Val, right: &Val, work: &Work) -> Evaluated {
    if left.is_null() && right.is_null() {
        return Ok(Val::Long(0));
    }
    if is_float(left) || is_float(right) {
        return Ok(Val::Double(to_double(left, work)? % to_double(right, work)?));
    }
    let divisor = to_long(right, work)?;
    let rest = to_long(left, work)?.checked_rem(divisor);
    match rest {
        Some(rest) => Ok(Val::Long(rest)),
        None if divisor == -1 => Ok(Val::Long(0)),
        None => Err(Fault(
            "InterpretException: Error resolving expression: ArithmeticException: / by zero".into(),
        )),
    }
}

fn floor_divide(left: &Val, right: &Val, work: &Work) -> Evaluated {
    if is_float(left) || is_float(right) {
        return Ok(Val::Double((to_double(left, work)? / to_double(right, work)?).floor()));
    }
    let (a, b) = (to_long(left, work)?, to_long(right, work)?);
    if b == 0 {
        return Err(Fault(
            "InterpretException: Error resolving expression: ArithmeticException: / by zero".into(),
        ));
    }
    let quotient = a.wrapping_div(b);
    let inexact = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
    Ok(Val::Long(quotient - i64::from(inexact)))
}

fn power(left: &Val, right: &Val, work: &Work) -> Evaluated {
    let result = to_double(left, work)?.powf(to_double(right, work)?);
    Ok(if is_float(left) || is_float(right) { Val::Double(result) } else { Val::Long(result as i64) })
}

pub fn negate(value: &Val, work: &Work) -> Evaluated {
    match value {
        Val::Null => Ok(Val::Long(0)),
        Val::Double(value) => Ok(Val::Double(-value)),
        Val::Long(value) => Ok(Val::Long(value.wrapping_neg())),
        Val::Int(value) => Ok(Val::Int(value.wrapping_neg())),
        Val::Text(_) if is_float(value) => Ok(Val::Double(-to_double(value, work)?)),
        Val::Text(_) => Ok(Val::Long(to_long(value, work)?.wrapping_neg())),
        other => Err(Fault(format!("Cannot negate 'class {}'", other.class_name()))),
    }
}

pub fn to_long(value: &Val, work: &Work) -> Evaluated<i64> {
    match value {
        Val::Null => Ok(0),
        Val::Long(value) => Ok(*value),
        Val::Int(value) => Ok(i64::from(*value)),
        Val::Double(value) => Ok(*value as i64),
        Val::Text(text) if text.is_empty() => Ok(0),
        Val::Text(text) => {
            number(text, work)?.parse().map_err(|_| coercion(value, ("java.lang.Long", "value"), work))
        }
        other => Err(coercion(other, ("java.lang.Long", "type"), work)),
    }
}

pub fn to_double(value: &Val, work: &Work) -> Evaluated<f64> {
    match value {
        Val::Null => Ok(0.0),
        Val::Long(value) => Ok(*value as f64),
        Val::Int(value) => Ok(f64::from(*value)),
        Val::Double(value) => Ok(*value),
        Val::Text(text) if text.is_empty() => Ok(0.0),
        Val::Text(text) => number(text, work)?
            .trim()
            .parse()
            .map_err(|_| coercion(value, ("java.lang.Double", "value"), work)),
        other => Err(coercion(other, ("java.lang.Double", "type"), work)),
    }
}

/// Reading a number takes as long as its text.
fn number<'t>(text: &'t str, work: &Work) -> Evaluated<&'t str> {
    work.take_bytes(text.len())?;
    Ok(text)
}

fn coercion(value: &Val, (target, what): (&str, &str), work: &Work) -> Fault {
    let class = value.class_name();
    Fault(format!(
        "Cannot coerce '{}' of class {class} to class {target} (incompatible {what})",
        value.to_java_string(work)
    ))
}

fn is_integer(value: &Val) -> bool {
    matches!(value, Val::Long(_) | Val::Int(_))
}

pub fn equal(left: &Val, right: &Val, work: &Work) -> Evaluated<bool> {
    if left.same_as(right) {
        return Ok(true);
    }
    if either_null(left, right) {
        return Ok(false);
    }
    let any = |test: fn(&Val) -> bool| test(left) || test(right);
    if any(|v| matches!(v, Val::Double(_))) {
        return Ok(to_double(left, work)?.to_bits() == to_double(right, work)?.to_bits());
    }
    if any(is_integer) {
        return Ok(to_long(left, work)? == to_long(right, work)?);
    }
    if any(|v| matches!(v, Val::Bool(_))) {
        return Ok(left.truthy() == right.truthy());
    }
    if any(|v| matches!(v, Val::Text(_))) {
        let (a, b) = (to_text(left, work)?, to_text(right, work)?);
        work.take_bytes(a.len().min(b.len()))?;
        return Ok(a == b);
    }
    left.java_equals(right, 0, work)
}

fn less(left: &Val, right: &Val, work: &Work) -> Evaluated<bool> {
    let any = |test: fn(&Val) -> bool| test(left) || test(right);
    if any(|v| matches!(v, Val::Double(_))) {
        return Ok(to_double(left, work)? < to_double(right, work)?);
    }
    if any(is_integer) {
        return Ok(to_long(left, work)? < to_long(right, work)?);
    }
    if any(|v| matches!(v, Val::Text(_))) {
        // Java compares UTF-16 units.
        let (a, b) = (to_text(left, work)?, to_text(right, work)?);
        work.take_bytes(a.len().min(b.len()))?;
        return Ok(a.encode_utf16().cmp(b.encode_utf16()) == Ordering::Less);
    }
    match (left, right) {
        (Val::Bool(a), Val::Bool(b)) => Ok(!a & b),
        (Val::Time(a), Val::Time(b)) => Ok(a.text < b.text),
        _ => Err(Fault(format!(
            "Cannot compare 'class {}' and 'class {}'",
            left.class_name(),
            right.class_name()
        ))),
    }
}

/// `in`: part of a text, item of a collection (converted to the class of the first item), key of a map.
pub fn contains(item: &Val, container: &Val, work: &Work) -> Evaluated<bool> {
    work.take(1)?;
    match container {
        Val::Text(text) => {
            work.take_bytes(text.len())?;
            Ok(text.contains(&*to_text(item, work)?))
        }
        Val::List(cell) | Val::Array(cell) => {
            let items = cell.0.borrow();
            for first in items.iter() {
                work.take(1)?;
                if first.is_null() {
                    if item.is_null() {
                        return Ok(true);
                    }
                    continue;
                }
                let Ok(wanted) = convert(item, first, work) else { return Ok(false) };
                return val::position(&items, &wanted, work).map(|found| found.is_some());
            }
            Ok(false)
        }
        Val::Map(cell) | Val::Namespace(cell) => Ok(cell.0.borrow().contains_key(&to_text(item, work)?)),
        _ => Ok(false),
    }
}

/// Converts to the class of `model`.
fn convert(value: &Val, model: &Val, work: &Work) -> Evaluated {
    match model {
        Val::Text(_) => Ok(Val::Text(to_text(value, work)?)),
        Val::Long(_) => Ok(Val::Long(to_long(value, work)?)),
        Val::Int(_) => Ok(Val::Int(to_long(value, work)? as i32)),
        Val::Double(_) => Ok(Val::Double(to_double(value, work)?)),
        Val::Bool(_) => Ok(Val::Bool(value.truthy())),
        _ if value.is_null() || std::mem::discriminant(value) == std::mem::discriminant(model) => {
            Ok(value.clone())
        }
        _ => Err(coercion(value, (model.class_name(), "type"), work)),
    }
}
