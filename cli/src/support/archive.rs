//! The file: a ZIP archive that only its owner can read, bounded, with a manifest at its end.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::DeflateEncoder};
use fleet::finding::mask_line;
use rawzip::{CompressionMethod, ZipArchiveWriter, time::UtcDateTime};
use serde::Serialize;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::unwritable;
use crate::{
    exit::Failure,
    view::{BundlePart, LeftOut, Manifest, When},
};

/// Bytes of one part, before it is compressed.
const PART_MAX: usize = 16 << 20;
/// Bytes of all parts but the manifest.
const ALL_MAX: usize = 96 << 20;
/// Lines of the manifest about what is left out.
const LEFT_OUT_MAX: usize = 1_000;

/// The file while it is made. It has its name only when it is whole.
pub(super) struct Archive {
    path: PathBuf,
    zip: ZipArchiveWriter<io::BufWriter<NamedTempFile>>,
    made: UtcDateTime,
    parts: Vec<BundlePart>,
    left_out: Vec<LeftOut>,
    bytes: usize,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For reading.
    Document,
    /// One of many.
    Line,
}

/// A value as JSON, with secrets hidden that a text of it holds.
pub(super) fn masked_json(value: &impl Serialize, form: Form) -> String {
    let mut value = serde_json::to_value(value).expect("views have no map with keys that are not text");
    mask(&mut value);
    match form {
        Form::Document => format!("{value:#}\n"),
        Form::Line => value.to_string(),
    }
}

/// A text with secrets hidden, line by line.
fn masked(text: &str) -> String {
    text.split('\n').map(mask_line).collect::<Vec<_>>().join("\n")
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = masked(text);
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Why something is left out.
pub(super) fn reason(failure: &Failure) -> String {
    let causes = failure.causes();
    std::iter::once(failure.what.as_str())
        .chain(causes.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Whether whoever unpacks it gets a file below the place where they unpack.
fn is_plain(path: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    path.len() < 1024 && path.split('/').all(is_plain)
}

impl Archive {
    /// Begins a file; refused if there is one of that name.
    pub(super) fn create(path: &Path, now: When) -> Result<Self, Failure> {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Mode 0600, as every file that `tempfile` makes.
        let file = NamedTempFile::with_prefix_in(".convoy-support-", dir);
        let file = file.map_err(|error| unwritable(path, error))?;
        let made = UtcDateTime::from_unix(now.0.div_euclid(1000));
        let zip = ZipArchiveWriter::new(io::BufWriter::new(file));
        Ok(Self { path: path.to_owned(), zip, made, parts: Vec::new(), left_out: Vec::new(), bytes: 0 })
    }

    /// A document, or why there is none.
    pub(super) fn json(
        &mut self,
        path: &str,
        what: &str,
        value: Result<impl Serialize, Failure>,
    ) -> Result<(), Failure> {
        match value {
            Ok(value) => self.put(path, what, &masked_json(&value, Form::Document), Vec::new()),
            Err(failure) => {
                self.leave_out(what, reason(&failure));
                Ok(())
            }
        }
    }

    /// Lines that are masked already, as far as they came.
    pub(super) fn lines(
        &mut self,
        path: &str,
        what: &str,
        (lines, mut notes): (&str, Vec<String>),
        broken: Option<Failure>,
    ) -> Result<(), Failure> {
        match broken {
            Some(failure) if lines.is_empty() => {
                self.leave_out(what, reason(&failure));
                return Ok(());
            }
            Some(failure) => notes.push(format!("the rest did not come: {}", reason(&failure))),
            None => {}
        }
        self.put(path, what, lines, notes)
    }

    /// Any text, masked line by line.
    pub(super) fn text(
        &mut self,
        path: &str,
        what: &str,
        text: &str,
        notes: Vec<String>,
    ) -> Result<(), Failure> {
        self.put(path, what, &masked(text), notes)
    }

    /// Says that something is not there.
    pub(super) fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        if self.left_out.len() < LEFT_OUT_MAX {
            self.left_out.push(LeftOut { what: masked(&what.into()), why: masked(&why.into()) });
        }
    }

    fn put(&mut self, path: &str, what: &str, text: &str, notes: Vec<String>) -> Result<(), Failure> {
        let why = if !is_plain(path) {
            Some("its name is none of a file below a directory".to_owned())
        } else if self.parts.iter().any(|part| part.path == path) {
            Some("there is another part of this name".to_owned())
        } else if PART_MAX < text.len() {
            Some(format!("it has {} bytes, and a part has at most {PART_MAX}", text.len()))
        } else if ALL_MAX < self.bytes + text.len() {
            Some(format!("all parts together have at most {ALL_MAX} bytes"))
        } else {
            None
        };
        if let Some(why) = why {
            self.leave_out(format!("{path} ({what})"), why);
            return Ok(());
        }
        self.write(path, text).map_err(|error| unwritable(&self.path, error))?;
        self.bytes += text.len();
        let (path, what) = (path.to_owned(), what.to_owned());
        self.parts.push(BundlePart { path, what, bytes: text.len(), notes });
        Ok(())
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), rawzip::Error> {
        let file = self.zip.new_file(path).compression_method(CompressionMethod::DEFLATE);
        let (mut entry, config) = file.last_modified(self.made).unix_permissions(0o600).start()?;
        let mut writer = config.wrap(DeflateEncoder::new(&mut entry, Compression::default()));
        writer.write_all(text.as_bytes())?;
        let (encoder, written) = writer.finish()?;
        encoder.finish()?;
        entry.finish(written)?;
        Ok(())
    }

    /// Writes the manifest, and gives the file its name.
    pub(super) fn finish(mut self, head: &Manifest) -> Result<Manifest, Failure> {
        let manifest = Manifest {
            parts: std::mem::take(&mut self.parts),
            left_out: std::mem::take(&mut self.left_out),
            ..head.clone()
        };
        let written = self.write("manifest.json", &masked_json(&manifest, Form::Document));
        written.map_err(|error| unwritable(&self.path, error))?;
        let path = self.path;
        let file = self.zip.finish().map_err(|error| unwritable(&path, error))?;
        let file = file.into_inner().map_err(|error| unwritable(&path, error.into_error()))?;
        file.as_file().sync_all().map_err(|error| unwritable(&path, error))?;
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(manifest),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
            Err(error) => Err(unwritable(&path, error.error)),
        }
    }
}

fn exists(path: &Path) -> Failure {
    Failure::refused(
        format!("{} is there already", path.display()),
        "name another file with --out, or remove it; nothing was written",
    )
}
