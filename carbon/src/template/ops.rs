//! Operators of the expression language (JUEL with jinjava's conversions).

use std::cmp::Ordering;
use std::sync::Arc;

use super::expr::Operator;
use super::val::Val;

/// What ends an evaluation: the engine's message.
#[derive(Debug, Clone)]
pub struct Fault(pub String);

pub type Evaluated<T = Val> = Result<T, Fault>;

/// Refuses texts that this program will not build.
pub fn too_large() -> Fault {
    Fault("a value of the template is too large or nests too deep".into())
}

pub fn apply(operator: Operator, left: &Val, right: &Val) -> Evaluated {
    let bool = |value: bool| Ok(Val::Bool(value));
    match operator {
        Operator::Add => add(left, right),
        Operator::Concat => concat(&to_text(left)?, &to_text(right)?),
        Operator::Subtract => arithmetic(left, right, i64::wrapping_sub, |a, b| a - b),
        Operator::Multiply => arithmetic(left, right, i64::wrapping_mul, |a, b| a * b),
        Operator::Divide if left.is_null() && right.is_null() => Ok(Val::Long(0)),
        Operator::Divide => Ok(Val::Double(to_double(left)? / to_double(right)?)),
        Operator::FloorDivide => floor_divide(left, right),
        Operator::Modulo => modulo(left, right),
        Operator::Power => power(left, right),
        Operator::Equal => bool(equal(left, right)?),
        Operator::NotEqual => bool(!equal(left, right)?),
        Operator::Less => bool(!left.same_as(right) && !either_null(left, right) && less(left, right)?),
        Operator::Greater => bool(!left.same_as(right) && !either_null(left, right) && less(right, left)?),
        Operator::LessOrEqual => {
            bool(left.same_as(right) || (!either_null(left, right) && !less(right, left)?))
        }
        Operator::GreaterOrEqual => {
            bool(left.same_as(right) || (!either_null(left, right) && !less(left, right)?))
        }
        Operator::In => bool(contains(left, right)?),
        Operator::NotIn => bool(!contains(left, right)?),
    }
}

fn either_null(left: &Val, right: &Val) -> bool {
    left.is_null() || right.is_null()
}

/// Null is the empty text.
pub fn to_text(value: &Val) -> Evaluated<Arc<str>> {
    if value.is_null() {
        return Ok(Arc::from(""));
    }
    value.try_to_string().ok_or_else(too_large)
}

/// `Objects.toString`: null is `null`.
pub fn print(value: &Val) -> Evaluated<Arc<str>> {
    value.try_to_string().ok_or_else(too_large)
}

fn concat(left: &str, right: &str) -> Evaluated {
    if super::val::TEXT_MAX < left.len() + right.len() {
        return Err(too_large());
    }
    Ok(Val::Text(Arc::from(format!("{left}{right}"))))
}

fn add(left: &Val, right: &Val) -> Evaluated {
    match (left, right) {
        (Val::List(a) | Val::Array(a), _) => {
            let mut items = a.0.borrow().clone();
            match right {
                Val::List(b) | Val::Array(b) => items.extend(b.0.borrow().iter().cloned()),
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
            for (key, value) in a.0.borrow().iter().chain(b.0.borrow().iter()) {
                hash.put(Arc::clone(key), value.clone());
            }
            for (key, value) in hash.iter() {
                entries.put(Arc::clone(key), value.clone());
            }
            Ok(Val::map(entries))
        }
        (Val::Text(_), _) | (_, Val::Text(_)) => concat(&print(left)?, &print(right)?),
        _ => arithmetic(left, right, i64::wrapping_add, |a, b| a + b),
    }
}

fn is_float(value: &Val) -> bool {
    match value {
        Val::Double(_) => true,
        Val::Text(text) => text.contains(['.', 'e', 'E']),
        _ => false,
    }
}

fn arithmetic(left: &Val, right: &Val, whole: fn(i64, i64) -> i64, real: fn(f64, f64) -> f64) -> Evaluated {
    if left.is_null() && right.is_null() {
        return Ok(Val::Long(0));
    }
    if is_float(left) || is_float(right) {
        return Ok(Val::Double(real(to_double(left)?, to_double(right)?)));
    }
    Ok(Val::Long(whole(to_long(left)?, to_long(right)?)))
}

fn modulo(left: &Val, right: &Val) -> Evaluated {
    if left.is_null() && right.is_null() {
        return Ok(Val::Long(0));
    }
    if is_float(left) || is_float(right) {
        return Ok(Val::Double(to_double(left)? % to_double(right)?));
    }
    let divisor = to_long(right)?;
    let rest = to_long(left)?.checked_rem(divisor);
    match rest {
        Some(rest) => Ok(Val::Long(rest)),
        None if divisor == -1 => Ok(Val::Long(0)),
        None => Err(Fault(
            "InterpretException: Error resolving expression: ArithmeticException: / by zero".into(),
        )),
    }
}

fn floor_divide(left: &Val, right: &Val) -> Evaluated {
    if is_float(left) || is_float(right) {
        return Ok(Val::Double((to_double(left)? / to_double(right)?).floor()));
    }
    let (a, b) = (to_long(left)?, to_long(right)?);
    if b == 0 {
        return Err(Fault(
            "InterpretException: Error resolving expression: ArithmeticException: / by zero".into(),
        ));
    }
    let quotient = a.wrapping_div(b);
    let inexact = a.wrapping_rem(b) != 0 && (a < 0) != (b < 0);
    Ok(Val::Long(quotient - i64::from(inexact)))
}

fn power(left: &Val, right: &Val) -> Evaluated {
    let result = to_double(left)?.powf(to_double(right)?);
    Ok(if is_float(left) || is_float(right) { Val::Double(result) } else { Val::Long(result as i64) })
}

pub fn negate(value: &Val) -> Evaluated {
    match value {
        Val::Null => Ok(Val::Long(0)),
        Val::Double(value) => Ok(Val::Double(-value)),
        Val::Long(value) => Ok(Val::Long(value.wrapping_neg())),
        Val::Int(value) => Ok(Val::Int(value.wrapping_neg())),
        Val::Text(_) if is_float(value) => Ok(Val::Double(-to_double(value)?)),
        Val::Text(_) => Ok(Val::Long(to_long(value)?.wrapping_neg())),
        other => Err(Fault(format!("Cannot negate 'class {}'", other.class_name()))),
    }
}

pub fn to_long(value: &Val) -> Evaluated<i64> {
    match value {
        Val::Null => Ok(0),
        Val::Long(value) => Ok(*value),
        Val::Int(value) => Ok(i64::from(*value)),
        Val::Double(value) => Ok(*value as i64),
        Val::Text(text) if text.is_empty() => Ok(0),
        Val::Text(text) => text.parse().map_err(|_| coercion(value, "java.lang.Long", "value")),
        other => Err(coercion(other, "java.lang.Long", "type")),
    }
}

pub fn to_double(value: &Val) -> Evaluated<f64> {
    match value {
        Val::Null => Ok(0.0),
        Val::Long(value) => Ok(*value as f64),
        Val::Int(value) => Ok(f64::from(*value)),
        Val::Double(value) => Ok(*value),
        Val::Text(text) if text.is_empty() => Ok(0.0),
        Val::Text(text) => text.trim().parse().map_err(|_| coercion(value, "java.lang.Double", "value")),
        other => Err(coercion(other, "java.lang.Double", "type")),
    }
}

fn coercion(value: &Val, target: &str, what: &str) -> Fault {
    let class = value.class_name();
    Fault(format!(
        "Cannot coerce '{}' of class {class} to class {target} (incompatible {what})",
        value.to_java_string()
    ))
}

fn is_integer(value: &Val) -> bool {
    matches!(value, Val::Long(_) | Val::Int(_))
}

pub fn equal(left: &Val, right: &Val) -> Evaluated<bool> {
    if left.same_as(right) {
        return Ok(true);
    }
    if either_null(left, right) {
        return Ok(false);
    }
    let any = |test: fn(&Val) -> bool| test(left) || test(right);
    if any(|v| matches!(v, Val::Double(_))) {
        return Ok(to_double(left)?.to_bits() == to_double(right)?.to_bits());
    }
    if any(is_integer) {
        return Ok(to_long(left)? == to_long(right)?);
    }
    if any(|v| matches!(v, Val::Bool(_))) {
        return Ok(left.truthy() == right.truthy());
    }
    if any(|v| matches!(v, Val::Text(_))) {
        return Ok(to_text(left)? == to_text(right)?);
    }
    Ok(left.java_equals(right, 0))
}

fn less(left: &Val, right: &Val) -> Evaluated<bool> {
    let any = |test: fn(&Val) -> bool| test(left) || test(right);
    if any(|v| matches!(v, Val::Double(_))) {
        return Ok(to_double(left)? < to_double(right)?);
    }
    if any(is_integer) {
        return Ok(to_long(left)? < to_long(right)?);
    }
    if any(|v| matches!(v, Val::Text(_))) {
        // Java compares UTF-16 units.
        let (a, b) = (to_text(left)?, to_text(right)?);
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
pub fn contains(item: &Val, container: &Val) -> Evaluated<bool> {
    match container {
        Val::Text(text) => Ok(text.contains(&*to_text(item)?)),
        Val::List(cell) | Val::Array(cell) => {
            let items = cell.0.borrow();
            for first in items.iter() {
                if first.is_null() {
                    if item.is_null() {
                        return Ok(true);
                    }
                    continue;
                }
                let Ok(wanted) = convert(item, first) else { return Ok(false) };
                return Ok(items.iter().any(|other| other.java_equals(&wanted, 0)));
            }
            Ok(false)
        }
        Val::Map(cell) | Val::Namespace(cell) => Ok(cell.0.borrow().contains_key(&to_text(item)?)),
        _ => Ok(false),
    }
}

/// Converts to the class of `model`.
fn convert(value: &Val, model: &Val) -> Evaluated {
    match model {
        Val::Text(_) => Ok(Val::Text(to_text(value)?)),
        Val::Long(_) => Ok(Val::Long(to_long(value)?)),
        Val::Int(_) => Ok(Val::Int(to_long(value)? as i32)),
        Val::Double(_) => Ok(Val::Double(to_double(value)?)),
        Val::Bool(_) => Ok(Val::Bool(value.truthy())),
        _ if value.is_null() || std::mem::discriminant(value) == std::mem::discriminant(model) => {
            Ok(value.clone())
        }
        _ => Err(coercion(value, model.class_name(), "type")),
    }
}
