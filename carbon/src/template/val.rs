//! Values while a template runs. Lists and maps are shared and can be changed, as in Java.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::ops::{Evaluated, too_large};
use crate::java;
use crate::value::{Ordered, Time, Value};
use crate::work::Work;

/// A value of the template language.
#[derive(Clone)]
pub enum Val {
    Null,
    Bool(bool),
    Int(i32),
    Long(i64),
    Double(f64),
    Text(Arc<str>),
    Time(Time),
    /// A Java list.
    List(Rc<ListCell>),
    /// A Java array or set: can be looped over, not changed.
    Array(Rc<ListCell>),
    /// A Java map.
    Map(Rc<MapCell>),
    /// What `namespace()` makes.
    Namespace(Rc<MapCell>),
    /// An entry of a map.
    Pair(Rc<(Arc<str>, Val)>),
    /// The variable `loop`.
    Loop(Rc<LoopState>),
    /// `name=value` among arguments.
    Named(Rc<(Arc<str>, Val)>),
}

/// Shared list.
#[derive(Default)]
pub struct ListCell(pub RefCell<Vec<Val>>);

/// Shared map.
#[derive(Default)]
pub struct MapCell(pub RefCell<Ordered<Val>>);

/// Where a loop stands.
pub struct LoopState {
    pub index0: usize,
    pub length: usize,
}

/// Deepest nesting that is printed or compared. Lists can be made to contain each other.
pub const DEPTH_MAX: usize = 80;

/// Items whose moving within a list counts as one unit of work.
pub const MOVED: usize = 64;

/// Longest text of one value.
pub const TEXT_MAX: usize = 16 << 20;

impl Drop for ListCell {
    fn drop(&mut self) {
        drop_flat(std::mem::take(self.0.get_mut()));
    }
}

impl Drop for MapCell {
    fn drop(&mut self) {
        drop_flat(std::mem::take(self.0.get_mut()).into_entries().into_iter().map(|(_, val)| val).collect());
    }
}

/// Frees nested containers one after the other: freeing them recursively would use stack in proportion to depth.
fn drop_flat(mut open: Vec<Val>) {
    while let Some(val) = open.pop() {
        match val {
            Val::List(cell) | Val::Array(cell) => {
                if let Some(mut cell) = Rc::into_inner(cell) {
                    open.append(cell.0.get_mut());
                }
            }
            Val::Map(cell) | Val::Namespace(cell) => {
                if let Some(mut cell) = Rc::into_inner(cell) {
                    let entries = std::mem::take(cell.0.get_mut()).into_entries();
                    open.extend(entries.into_iter().map(|(_, val)| val));
                }
            }
            Val::Pair(pair) | Val::Named(pair) => {
                if let Some((_, val)) = Rc::into_inner(pair) {
                    open.push(val);
                }
            }
            _ => {}
        }
    }
}

impl Val {
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }

    pub fn list(items: Vec<Val>) -> Self {
        Self::List(Rc::new(ListCell(RefCell::new(items))))
    }

    pub fn array(items: Vec<Val>) -> Self {
        Self::Array(Rc::new(ListCell(RefCell::new(items))))
    }

    pub fn map(entries: Ordered<Val>) -> Self {
        Self::Map(Rc::new(MapCell(RefCell::new(entries))))
    }

    /// Takes a value of the mapper over.
    pub fn from_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Int(*value),
            Value::Long(value) => Self::Long(*value),
            Value::Double(value) => Self::Double(*value),
            Value::Text(text) => Self::Text(Arc::clone(text)),
            Value::Time(time) => Self::Time(time.clone()),
            Value::List(items) => Self::list(items.iter().map(Self::from_value).collect()),
            Value::Map(map) => {
                Self::map(map.iter().map(|(key, value)| (Arc::clone(key), Self::from_value(value))).collect())
            }
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Null, `false`, zero, empty, and the text `false` in any case are false.
    pub fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Long(value) => *value != 0,
            Self::Double(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty() && !text.eq_ignore_ascii_case("false"),
            Self::List(cell) | Self::Array(cell) => !cell.0.borrow().is_empty(),
            Self::Map(cell) | Self::Namespace(cell) => !cell.0.borrow().is_empty(),
            Self::Time(_) | Self::Pair(_) | Self::Loop(_) | Self::Named(_) => true,
        }
    }

    /// `value.getClass()` as it appears in the engine's messages.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "java.lang.Boolean",
            Self::Int(_) => "java.lang.Integer",
            Self::Long(_) => "java.lang.Long",
            Self::Double(_) => "java.lang.Double",
            Self::Text(_) => "java.lang.String",
            Self::Time(time) => time.class.java_name(),
            Self::List(_) => "com.hubspot.jinjava.objects.collections.SizeLimitingPyList",
            Self::Array(_) => "java.util.Set",
            Self::Map(_) => "com.hubspot.jinjava.objects.collections.SizeLimitingPyMap",
            Self::Namespace(_) => "com.hubspot.jinjava.objects.Namespace",
            Self::Pair(_) => "java.util.Map$Entry",
            Self::Loop(_) => "com.hubspot.jinjava.util.ForLoop",
            Self::Named(_) => "com.hubspot.jinjava.el.ext.NamedParameter",
        }
    }

    /// `Objects.toString(value)`: null is `null`. Refused if the text would be too long or nests too deep.
    pub fn try_to_string(&self, work: &Work) -> Evaluated<Arc<str>> {
        if let Self::Text(text) = self {
            return Ok(Arc::clone(text));
        }
        let mut out = String::new();
        self.print(&mut out, 0, work)?;
        Ok(Arc::from(out))
    }

    /// The same for tests and messages: what is too long is cut.
    pub fn to_java_string(&self, work: &Work) -> String {
        let mut out = String::new();
        self.print(&mut out, 0, work).ok();
        out
    }

    /// Appends the printed form. Refused if it would be too long or nests too deep.
    pub fn print(&self, out: &mut String, depth: usize, work: &Work) -> Evaluated<()> {
        if DEPTH_MAX < depth || TEXT_MAX < out.len() {
            return Err(too_large());
        }
        let before = out.len();
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Long(value) => out.push_str(&value.to_string()),
            Self::Double(value) => out.push_str(&java::double_to_string(*value)),
            Self::Text(text) => out.push_str(text),
            Self::Time(time) => out.push_str(&time.text),
            Self::List(cell) | Self::Array(cell) => {
                out.push('[');
                for (n, item) in cell.0.borrow().iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    item.print(out, depth + 1, work)?;
                }
                out.push(']');
                return Ok(work.take(1)?);
            }
            Self::Map(cell) | Self::Namespace(cell) => {
                out.push('{');
                for (n, (key, value)) in cell.0.borrow().iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(key);
                    out.push('=');
                    work.take_bytes(key.len())?;
                    value.print(out, depth + 1, work)?;
                }
                out.push('}');
                return Ok(work.take(1)?);
            }
            Self::Pair(pair) | Self::Named(pair) => {
                out.push_str(&pair.0);
                out.push('=');
                work.take_bytes(pair.0.len())?;
                return pair.1.print(out, depth + 1, work);
            }
            Self::Loop(state) => out.push_str(&format!("<ForLoop: {}>", state.length)),
        }
        Ok(work.take_bytes(out.len() - before)?)
    }

    /// Items as a loop sees them: a map gives its values, a scalar itself, null nothing.
    pub fn loop_items(&self, work: &Work) -> Evaluated<Vec<Val>> {
        Ok(match self {
            Self::Null => Vec::new(),
            Self::List(cell) | Self::Array(cell) => cell.items(work)?,
            Self::Map(cell) | Self::Namespace(cell) => {
                let map = cell.0.borrow();
                work.take(map.len())?;
                map.iter().map(|(_, val)| val.clone()).collect()
            }
            other => vec![other.clone()],
        })
    }

    /// Java's `==`: the same object. Small numbers count as one object, as boxed values do.
    pub fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b && (-128..=127).contains(a),
            (Self::Long(a), Self::Long(b)) => a == b && (-128..=127).contains(a),
            (Self::Text(a), Self::Text(b)) => Arc::ptr_eq(a, b),
            (Self::List(a), Self::List(b)) | (Self::Array(a), Self::Array(b)) => Rc::ptr_eq(a, b),
            (Self::Map(a), Self::Map(b)) | (Self::Namespace(a), Self::Namespace(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Java's `equals`. What nests too deep is not equal.
    pub fn java_equals(&self, other: &Self, depth: usize, work: &Work) -> Evaluated<bool> {
        work.take(1)?;
        if DEPTH_MAX < depth {
            return Ok(false);
        }
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) => same_text(a, b, work)?,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                if Rc::ptr_eq(a, b) {
                    return Ok(true);
                }
                let (a, b) = (a.0.borrow(), b.0.borrow());
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    if !a.java_equals(b, depth + 1, work)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(a) | Self::Namespace(a), Self::Map(b) | Self::Namespace(b)) => {
                if Rc::ptr_eq(a, b) {
                    return Ok(true);
                }
                let (a, b) = (a.0.borrow(), b.0.borrow());
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (key, value) in a.iter() {
                    work.take_bytes(key.len())?;
                    let Some(other) = b.get(key) else { return Ok(false) };
                    if !value.java_equals(other, depth + 1, work)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Pair(a), Self::Pair(b)) => a.0 == b.0 && a.1.java_equals(&b.1, depth + 1, work)?,
            _ => self.same_as(other),
        })
    }
}

fn same_text(a: &Arc<str>, b: &Arc<str>, work: &Work) -> Evaluated<bool> {
    if a.len() != b.len() || Arc::ptr_eq(a, b) {
        return Ok(a.len() == b.len());
    }
    work.take_bytes(a.len())?;
    Ok(a == b)
}

/// The first item that equals `wanted`.
pub fn position(items: &[Val], wanted: &Val, work: &Work) -> Evaluated<Option<usize>> {
    for (n, item) in items.iter().enumerate() {
        if item.java_equals(wanted, 0, work)? {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

impl ListCell {
    /// A copy of the items.
    pub fn items(&self, work: &Work) -> Evaluated<Vec<Val>> {
        let items = self.0.borrow();
        work.take(items.len())?;
        Ok(items.clone())
    }
}
