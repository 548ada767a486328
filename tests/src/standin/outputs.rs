//! The configuration step's outputs: generated files, and the record in `.metadata` that decides about them.
//!
//! Templates here know one construct, `{{ dotted.key }}`; the pack generator writes only such. The rules about
//! *when* files are rewritten, which deleted file ends the start and what is recorded are the product's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use md5::{Digest, Md5};

use super::config::{self, Config, hex};

const RESOURCES: &str = "repository/resources/conf";
const RULES: [&str; 5] =
    ["default.json", "infer.json", "key-mappings.json", "unit-resolve.json", "validator.json"];

/// What the step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No record yet: everything was written.
    First,
    Unchanged,
    /// Paths that differ from the record; everything was written again.
    Changed {
        outputs: Vec<String>,
        templates: Vec<String>,
        references: bool,
    },
}

/// Why the server exits 1.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("Error while reading metadata")]
    Metadata(#[source] io::Error),
    #[error("Error while store new configurations")]
    Write(#[source] io::Error),
    #[error("Error while deleting {0}")]
    Backup(String, #[source] io::Error),
}

/// Runs the step for an accepted configuration.
pub fn generate(home: &Path, config: &Config, force: bool) -> Result<Outcome, OutputError> {
    let templates = templates(home).map_err(OutputError::Write)?;
    let outputs: Vec<String> = templates.iter().map(|template| output_of(template)).collect();
    let rules = template_digests(home, &templates).map_err(OutputError::Metadata)?;
    back_up(home, &outputs)?;
    let outcome = match Record::read(home) {
        None => Outcome::First,
        Some(record) => record.compare(home, &rules, &config.references).map_err(OutputError::Metadata)?,
    };
    if outcome == Outcome::Unchanged && !force {
        return Ok(outcome);
    }
    write_outputs(home, config, &templates).map_err(OutputError::Write)?;
    let mut digests = BTreeMap::new();
    for path in outputs.iter().map(String::as_str).chain([config::FILE]) {
        digests.insert(path.to_owned(), digest(&home.join(path)).map_err(OutputError::Write)?);
    }
    Record { outputs: digests, templates: rules, references: config.references.clone() }
        .write(home)
        .map_err(OutputError::Write)?;
    Ok(outcome)
}

/// The three property files of `.metadata`.
struct Record {
    outputs: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    references: BTreeMap<String, String>,
}

impl Record {
    /// `None` unless all three files are there.
    fn read(home: &Path) -> Option<Record> {
        let dir = home.join(RESOURCES).join(".metadata");
        Some(Record {
            outputs: read_properties(&dir.join("metadata_config.properties"))?,
            templates: read_properties(&dir.join("metadata_template.properties"))?,
            references: read_properties(&dir.join("references.properties"))?,
        })
    }

    fn write(&self, home: &Path) -> io::Result<()> {
        let dir = home.join(RESOURCES).join(".metadata");
        fs::create_dir_all(&dir)?;
        write_properties(&dir.join("metadata_config.properties"), &self.outputs)?;
        write_properties(&dir.join("metadata_template.properties"), &self.templates)?;
        write_properties(&dir.join("references.properties"), &self.references)
    }

    /// A recorded file that is gone is an error, not a difference: that is how the product fails.
    fn compare(
        &self,
        home: &Path,
        templates: &BTreeMap<String, String>,
        references: &BTreeMap<String, String>,
    ) -> io::Result<Outcome> {
        let mut outputs = Vec::new();
        for (path, recorded) in &self.outputs {
            if digest(&home.join(path))? != *recorded {
                outputs.push(path.clone());
            }
        }
        let changed = templates.iter().filter(|&(path, digest)| self.templates.get(path) != Some(digest));
        let templates: Vec<String> = changed.map(|(path, _)| path.clone()).collect();
        // Only recorded references are compared; a new one comes with a changed deployment.toml anyway.
        let references = self.references.iter().any(|(name, value)| references.get(name) != Some(value));
        if outputs.is_empty() && templates.is_empty() && !references {
            return Ok(Outcome::Unchanged);
        }
        Ok(Outcome::Changed { outputs, templates, references })
    }
}

fn templates(home: &Path) -> io::Result<Vec<String>> {
    let root = home.join(RESOURCES).join("templates");
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() && entry.path().extension().is_some_and(|extension| extension == "j2")
        {
            let below = entry.path().strip_prefix(&root).map_err(io::Error::other)?;
            found.push(below.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(found)
}

fn output_of(template: &str) -> String {
    template.strip_suffix(".j2").unwrap_or(template).to_owned()
}

fn template_digests(home: &Path, templates: &[String]) -> io::Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    let rules = RULES.iter().map(|name| format!("{RESOURCES}/{name}"));
    for path in templates.iter().map(|name| format!("{RESOURCES}/templates/{name}")).chain(rules) {
        digests.insert(path.clone(), digest(&home.join(&path))?);
    }
    Ok(digests)
}

/// The backup directory holds the state before this start, and only that.
fn back_up(home: &Path, outputs: &[String]) -> Result<(), OutputError> {
    let backup = home.join("backup");
    let failed = |error| OutputError::Backup("backup".to_owned(), error);
    match fs::remove_dir_all(&backup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    for path in outputs.iter().filter(|path| home.join(path).is_file()) {
        let to = backup.join(path);
        fs::create_dir_all(to.parent().unwrap_or(&backup)).map_err(failed)?;
        fs::copy(home.join(path), to).map_err(failed)?;
    }
    Ok(())
}

fn write_outputs(home: &Path, config: &Config, templates: &[String]) -> io::Result<()> {
    let defaults: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&fs::read(home.join(RESOURCES).join("default.json"))?)?;
    let value = |key: &str| {
        config.text_of(key).or_else(|| {
            defaults.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
    };
    for template in templates {
        let text = fs::read_to_string(home.join(RESOURCES).join("templates").join(template))?;
        let path: PathBuf = home.join(output_of(template));
        fs::create_dir_all(path.parent().unwrap_or(home))?;
        // In place, not by rename: a crash here may leave half a file, and the next start heals it.
        fs::write(path, render(&text, &value))?;
    }
    Ok(())
}

fn render(template: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut parts = template.split("{{");
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let (key, rest) = part.split_once("}}").unwrap_or((part, ""));
        out.push_str(&value(key.trim()).unwrap_or_default());
        out.push_str(rest);
    }
    out
}

fn digest(path: &Path) -> io::Result<String> {
    Ok(hex(&Md5::digest(fs::read(path)?)))
}

fn read_properties(path: &Path) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).ok()?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Some(lines.filter_map(split_property).collect())
}

fn split_property(line: &str) -> Option<(String, String)> {
    let mut key = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.extend(characters.next()),
            '=' => return Some((key, unescape(characters.as_str()))),
            other => key.push(other),
        }
    }
    None
}

fn unescape(value: &str) -> String {
    let mut out = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                other => out.extend(other),
            },
            other => out.push(other),
        }
    }
    out
}

/// `java.util.Properties.store`: a date comment, then escaped pairs.
fn write_properties(path: &Path, pairs: &BTreeMap<String, String>) -> io::Result<()> {
    let mut text = format!("#{}\n", jiff::Zoned::now().strftime("%a %b %d %H:%M:%S %Z %Y"));
    for (key, value) in pairs {
        text.push_str(&format!("{}={}\n", escape(key, Spaces::All), escape(value, Spaces::Leading)));
    }
    fs::write(path, text)
}

/// Which spaces a property file escapes: all of a key, only those before a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spaces {
    All,
    Leading,
}

fn escape(text: &str, spaces: Spaces) -> String {
    let leading = text.len() - text.trim_start_matches(' ').len();
    let mut out = String::new();
    for (at, character) in text.char_indices() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ':' | '=' | '#' | '!' | '\\' => out.extend(['\\', character]),
            ' ' if spaces == Spaces::All || at < leading => out.push_str("\\ "),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_survive_the_round_trip() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p.properties");
        let pairs = BTreeMap::from([
            ("env:A B".to_owned(), "x=1:\\ two\nlines".to_owned()),
            ("repository/conf/carbon.xml".to_owned(), "abc".to_owned()),
        ]);
        write_properties(&path, &pairs).expect("written");
        assert_eq!(read_properties(&path), Some(pairs));
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.contains("env\\:A\\ B=x\\=1\\:\\\\ two\\nlines"), "{text}");
    }
}
