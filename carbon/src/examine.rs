//! All refusals of one deployment.toml at once. The mapper stops at the first; whoever corrects a file wants to see the
//! others too, and what the rest of the file does. So what is missing is stood in for, and the run goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::pack::Pack;
use crate::reference::{self, Inputs, Variables};
use crate::render::{Prepared, Rendered, refusal};
use crate::tree;
use crate::value::Value;
use crate::work::Work;

/// Refusals that are gathered of one file; each costs another run over its references.
const REFUSALS_MAX: usize = 16;
/// What stands in for a value: it reads as a number, a text and a duration alike.
const STAND_IN: &str = "1";

/// What a file that the server refuses would give without the refusals.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// In the order in which the mapper would meet them.
    pub refusals: Vec<MapperError>,
    /// As far as it went: files of templates that failed are missing.
    pub rendered: Rendered,
}

/// Goes on behind every refusal as far as that makes sense.
pub fn examine(pack: &Pack, toml: &str, inputs: &Inputs) -> Examined {
    let mut refusals = Vec::new();
    let work = Work::default();
    let rendered = match Prepared::read(pack, toml, &work) {
        Ok(file) => {
            Examination { file, stood_in: BTreeSet::new(), work }.run(pack, inputs.clone(), &mut refusals)
        }
        Err(error) => {
            refusals.push(error);
            Rendered::default()
        }
    };
    Examined { refusals, rendered }
}

struct Examination {
    file: Prepared,
    /// Keys whose value is stood in for, or depends on one that is: what is wrong with those is not the file's fault.
    stood_in: BTreeSet<Arc<str>>,
    work: Work,
}

impl Examination {
    fn run(mut self, pack: &Pack, inputs: Inputs, refusals: &mut Vec<MapperError>) -> Rendered {
        let Some((mut data, variables)) = self.references(pack, inputs, refusals) else {
            return Rendered::default();
        };
        self.units(pack, &mut data, refusals);
        let violations = pack.rules.violations(&data, &self.work);
        refusals.extend(violations.into_iter().filter(|error| !self.is_made_up(error)));
        let mut files = BTreeMap::new();
        match tree::build(&data) {
            Ok(tree) => {
                for file in &pack.templates {
                    match file.template.render(&tree, &self.work) {
                        Ok(text) => drop(files.insert(Arc::clone(&file.output), text)),
                        Err(fault) => refusals.push(refusal(file, fault)),
                    }
                }
            }
            Err(error) => refusals.push(error),
        }
        refusals.truncate(REFUSALS_MAX);
        let resolved = self.file.resolved(data, variables);
        Rendered { files, resolved }
    }

    /// Resolves references; each refusal is stood in for, and the file is tried again. `None` if that does not help.
    fn references(
        &mut self,
        pack: &Pack,
        mut inputs: Inputs,
        refusals: &mut Vec<MapperError>,
    ) -> Option<(Flat, Variables)> {
        while refusals.len() < REFUSALS_MAX {
            let mut data = self.file.data.clone();
            match reference::resolve(&mut data, &self.file.aliases, &inputs, (pack.dialect, &self.work)) {
                Ok(variables) => return Some((data, variables)),
                Err(error) => {
                    let goes_on = self.stand_in(&error, &mut inputs);
                    refusals.push(error);
                    if !goes_on {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Puts something in the place of what a refusal misses; false if that cannot be done.
    fn stand_in(&mut self, error: &MapperError, inputs: &mut Inputs) -> bool {
        match error {
            MapperError::SecretMissing { alias, .. } | MapperError::SecretPlain { alias, .. } => {
                self.file.aliases.add(alias);
            }
            MapperError::SystemProperty { key, name } => {
                self.stood_in.insert(Arc::clone(key));
                inputs.system_properties.insert(name.clone(), STAND_IN.to_owned());
            }
            MapperError::Environment { key, name } => {
                self.stood_in.insert(Arc::clone(key));
                inputs.environment.insert(name.clone(), STAND_IN.to_owned());
            }
            MapperError::Replacement { key, .. } => self.put(key),
            MapperError::ReferenceMissing { missing, used_by } => {
                self.stood_in.extend(used_by.iter().cloned());
                self.put(&Arc::from(missing.as_str()));
            }
            MapperError::ReferenceCycle { keys } => {
                keys.iter().for_each(|key| self.put(&Arc::from(key.as_str())));
            }
            MapperError::Toml { .. }
            | MapperError::TomlThrown(_)
            | MapperError::Reopened(_)
            | MapperError::Key { .. }
            | MapperError::SecretType { .. }
            | MapperError::MappingKey { .. }
            | MapperError::MappingValue { .. }
            | MapperError::InferenceCycle { .. }
            | MapperError::Unit { .. }
            | MapperError::Rule { .. }
            | MapperError::RuleType { .. }
            | MapperError::Quote { .. }
            | MapperError::Template { .. }
            | MapperError::Limit { .. } => return false,
        }
        true
    }

    fn put(&mut self, key: &Arc<str>) {
        self.stood_in.insert(Arc::clone(key));
        self.file.data.put(Arc::clone(key), Value::text(STAND_IN));
    }

    fn units(&self, pack: &Pack, data: &mut Flat, refusals: &mut Vec<MapperError>) {
        while refusals.len() < REFUSALS_MAX {
            let mut converted = data.clone();
            let Err(error) = pack.units.apply(&mut converted) else {
                *data = converted;
                return;
            };
            let MapperError::Unit { key, .. } = &error else { return };
            data.put(Arc::clone(key), Value::text(STAND_IN));
            if !self.is_made_up(&error) {
                refusals.push(error);
            }
        }
    }

    fn is_made_up(&self, error: &MapperError) -> bool {
        error.keys().iter().any(|key| self.stood_in.contains(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::RESOURCES;

    fn refusals(toml: &str) -> Vec<String> {
        let files = [
            ("key-mappings.json", "{}"),
            ("infer.json", "{}"),
            ("default.json", r#"{"x.name": "$ref{server.hostname}", "y.name": "$ref{server.id}"}"#),
            ("unit-resolve.json", r#"{"time": {"cache.timeout": "s", "y.name": "s"}}"#),
            ("validator.json", r#"{"mode": [{"regex": "a|b"}], "x.name": [{"regex": "[a-z]+"}]}"#),
            ("templates/a.txt.j2", "{{ x.name }} {{ cache.timeout }} {{ list.toList() }}"),
            ("templates/b.txt.j2", "{{ mode }}"),
        ];
        let files = files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
        let pack = Pack::load(files.into_iter()).unwrap();
        let Examined { refusals, rendered } = examine(&pack, toml, &Inputs::default());
        assert!(rendered.files.contains_key("b.txt"), "it went on to the end: {refusals:?}");
        let first = crate::render(&pack, toml, &Inputs::default()).err();
        assert_eq!(refusals.first(), first.as_ref(), "the first is the one that the server gives");
        refusals.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_refusal_is_told_and_none_that_a_stand_in_causes() {
        let toml =
            "mode = 'c'\na = '$env{TWO}'\nb = '$secret{three}'\nlist = 'x'\n[cache]\ntimeout = '3 weeks'";
        assert_eq!(
            refusals(toml),
            [
                "Secret references can't be resolved for three",
                "Environment variable TWO not defined in system",
                "Configuration with key server.hostname doesn't exist",
                "Configuration with key server.id doesn't exist",
                "Invalid unit : weeks",
                "Validation failed for mode. Expected value to match \"a|b\", but was c",
                "Cannot find method toList with 0 parameters in class java.lang.String",
            ]
        );
        let good = "mode = 'a'\n[server]\nhostname = 'h'\nid = '1'\n[cache]\ntimeout = '3 m'\n";
        assert_eq!(refusals(good), [""; 0]);
    }
}
