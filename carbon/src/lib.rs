//! WSO2's configuration model: from deployment.toml to the files that the server will really use, byte for byte, or
//! to the error with which it would refuse to start.
//!
//! The library does no I/O and reads no clock, environment or file. Callers hand in bytes:
//!
//! ```
//! use carbon::{Inputs, Pack, render};
//! # let files = carbon::pack::RULE_FILES.iter().map(|f| (format!("repository/resources/conf/{f}"), b"{}".to_vec()))
//! #     .chain([("repository/resources/conf/templates/conf/a.xml.j2".to_string(), b"<n>{{ server.name }}</n>".to_vec())]);
//! // `files`: (path below the product's home, content), such as repository/resources/conf/default.json.
//! let pack = Pack::load(files).unwrap();
//! let rendered = render(&pack, "[server]\nname = \"a\"\n", &Inputs::default()).unwrap();
//! assert_eq!(rendered.files["conf/a.xml"], "<n>a</n>\n");
//! ```
//!
//! # The phases, one module each
//! `toml` and [`flatten`] → [`mapping`] → [`infer`] → [`defaults`] → [`reference`] → [`units`] → [`validate`] →
//! [`tree`] → [`template`]. [`mod@render`] runs them; [`pack`] holds what they need; [`dialect`] says which version of
//! the mapper and of its template engine a product has; [`java`] is the part of Java that shows through.
//!
//! # What callers use
//! - [`Pack::load`], [`Pack::digest`]; [`render`](render::render) (or [`render_typed`]) for the files, [`resolve`] for the values only.
//! - [`Rendered`] and [`Resolved`]: final values, where each came from ([`Origin`]), places in deployment.toml,
//!   variables that were looked up.
//! - [`KnownKeys::of`]: every key that a pack knows, with default, type, unit, what infers it and which templates read
//!   it; [`KnownKeys::find`] and [`KnownKeys::nearest`] for keys as users write them ([`Resolved::written`]).
//! - [`examine`]: all refusals of a file at once, and what it would give without them.
//! - [`effect`]: whether a typed value matters to any file.
//! - [`locate`]: the lines of rendered files where a key shows.
//! - [`metadata`]: whether a server's next start will render again, and which edits it will then overwrite.
//! - [`MapperError`]: WSO2's sentence (`Display`), the exception, the keys and the place behind it.
//!
//! # Bounds
//! Every input is bounded: files, templates and the pack as a whole, nesting of TOML, JSON, tags and expressions, rounds
//! of loops, output, single values, and all [`work`] of one render together, which also bounds its memory. Beyond a
//! bound stands an error that names it, never a panic or endless work.

pub mod alike;
pub mod defaults;
pub mod dialect;
pub mod effect;
pub mod error;
pub mod examine;
pub mod flatten;
pub mod infer;
pub mod java;
mod json;
pub mod known;
pub mod mapping;
pub mod metadata;
pub mod pack;
pub mod reference;
pub mod render;
pub mod template;
pub mod toml;
pub mod tree;
pub mod units;
pub mod validate;
pub mod value;
pub mod work;

pub use dialect::{Dialect, Product, Version};
pub use error::MapperError;
pub use examine::{Examined, examine};
pub use known::KnownKeys;
pub use pack::{Pack, PackError};
pub use reference::Inputs;
pub use render::{Origin, Place, Rendered, Resolved, locate, render, render_typed, resolve};
pub use value::Value;
