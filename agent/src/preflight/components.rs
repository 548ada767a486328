//! Looks for jars by the classes in them, and for web applications. Of a jar only its directory is read, piece by
//! piece; nothing is unpacked.

use std::{
    collections::BTreeMap,
    fs::File,
    time::{Duration, Instant},
};

use fleet::{
    bundle::HomePath,
    preflight::components::{Component, ComponentFact, JAR_DIRS, WEBAPPS, Wanted},
};
use rawzip::{RECOMMENDED_BUFFER_SIZE, ZipArchive};

use super::Subject;
use crate::files::{Home, LastPart, open_named};

/// Names in one directory; `plugins` of API Manager holds some 1,500.
const NAMES_MAX: usize = 10_000;
/// Entries that are looked at in one jar; the largest of the products has some 30,000.
const ENTRIES_MAX: u64 = 200_000;
/// For all jars together.
const TIME: Duration = Duration::from_secs(20);

/// What is there of each component. Blocking.
pub(super) fn look(subject: &Subject, wanted: Vec<Component>) -> Vec<(Component, ComponentFact)> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut facts: BTreeMap<&Wanted, ComponentFact> = BTreeMap::new();
    match Home::open(&subject.settings.home).map_err(|error| crate::chain(&error)) {
        Ok(home) => {
            let classes: Vec<Class<'_>> = wanted.iter().flat_map(|one| classes(&one.wanted)).collect();
            let seen = Jars { home: &home, subject }.look(&classes);
            for Component { wanted, .. } in &wanted {
                let fact = match wanted {
                    Wanted::Driver(_) | Wanted::Handler(_) => seen.fact(wanted),
                    Wanted::Connector(prefix) => seen.named(prefix),
                    Wanted::Webapp(name) => webapp(&home, subject, name),
                };
                facts.insert(wanted, fact);
            }
        }
        Err(why) => {
            facts.extend(wanted.iter().map(|one| (&one.wanted, ComponentFact::NotLooked(why.clone()))));
        }
    }
    let of = |one: &Component| facts.get(&one.wanted).cloned();
    let found: Vec<Option<ComponentFact>> = wanted.iter().map(of).collect();
    let unknown = || ComponentFact::NotLooked("it was not looked for".to_owned());
    wanted.into_iter().zip(found).map(|(one, fact)| (one, fact.unwrap_or_else(unknown))).collect()
}

/// What the running server is configured with works for it, wherever it has it from.
pub(super) fn excuse(facts: &mut [(Component, ComponentFact)], in_use: &[Component]) {
    for (component, fact) in facts {
        if *fact == ComponentFact::Absent && in_use.iter().any(|used| used.wanted == component.wanted) {
            *fact = ComponentFact::InUse;
        }
    }
}

/// A class that is looked for, by the name of its file in a jar.
struct Class<'w> {
    wanted: &'w Wanted,
    file: String,
}

fn classes(wanted: &Wanted) -> Vec<Class<'_>> {
    let names: &[String] = match wanted {
        Wanted::Driver(names) => names,
        Wanted::Handler(name) => std::slice::from_ref(name),
        Wanted::Connector(_) | Wanted::Webapp(_) => &[],
    };
    let file = |name: &String| format!("{}.class", name.replace('.', "/"));
    names.iter().map(|name| Class { wanted, file: file(name) }).collect()
}

/// The jars of a home, as they will be once the bundle is in force.
struct Jars<'a> {
    home: &'a Home,
    subject: &'a Subject,
}

/// What the jars hold.
#[derive(Default)]
struct Seen<'w> {
    /// Each wanted class with the first jar that holds it.
    found: BTreeMap<&'w Wanted, String>,
    /// Jars that hold jars, or cannot be read.
    doubtful: Vec<String>,
    /// Every jar.
    names: Vec<String>,
    /// A directory cannot be listed, or it took too long: why.
    failure: Option<String>,
}

impl Seen<'_> {
    fn fact(&self, wanted: &Wanted) -> ComponentFact {
        match (self.found.get(wanted), &self.failure) {
            (Some(jar), _) => ComponentFact::Found(jar.clone()),
            (None, Some(why)) => ComponentFact::NotLooked(why.clone()),
            (None, None) if self.doubtful.is_empty() => ComponentFact::Absent,
            (None, None) => ComponentFact::Unsure(self.doubtful.clone()),
        }
    }

    fn named(&self, prefix: &str) -> ComponentFact {
        let is_it = |path: &&String| path.rsplit('/').next().is_some_and(|name| name.starts_with(prefix));
        match (self.names.iter().find(is_it), &self.failure) {
            (Some(path), _) => ComponentFact::Found(path.clone()),
            (None, Some(why)) => ComponentFact::NotLooked(why.clone()),
            (None, None) => ComponentFact::Absent,
        }
    }
}

/// What one jar says of the classes.
enum JarFact {
    Read { holds_jars: bool },
    Unreadable,
}

impl Jars<'_> {
    /// Plugins are mostly the product's own: their jars are read only while something was not found before them, and
    /// none of them is doubtful.
    fn look<'w>(&self, classes: &[Class<'w>]) -> Seen<'w> {
        let deadline = Instant::now() + TIME;
        let mut seen = Seen::default();
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        for dir in JAR_DIRS {
            let jars = match self.list(dir) {
                Ok(jars) => jars,
                Err(why) => {
                    seen.failure = Some(why);
                    return seen;
                }
            };
            for jar in &jars {
                if classes.iter().all(|class| seen.found.contains_key(class.wanted)) {
                    break;
                }
                if deadline < Instant::now() {
                    seen.failure = Some(format!("the jars could not be read within {} s", TIME.as_secs()));
                    return seen;
                }
                let fact = self.read(jar, classes, (&mut seen.found, &mut buffer));
                let is_shipped = dir == JAR_DIRS[2];
                match fact {
                    JarFact::Read { holds_jars: false } => {}
                    JarFact::Read { holds_jars: true } | JarFact::Unreadable if is_shipped => {}
                    JarFact::Read { holds_jars: true } | JarFact::Unreadable => {
                        seen.doubtful.push(jar.to_string());
                    }
                }
            }
            seen.names.extend(jars.iter().map(ToString::to_string));
        }
        seen
    }

    /// What lies in a directory and what the bundle brings there, in order.
    fn list(&self, dir: &str) -> Result<Vec<HomePath>, String> {
        let path = HomePath::parse(dir).map_err(|error| error.to_string())?;
        let there = self.home.list(&path, NAMES_MAX).map_err(|error| crate::chain(&error))?;
        let is_jar = |name: &str| name.to_ascii_lowercase().ends_with(".jar");
        let there = there.iter().filter(|entry| !entry.is_dir && is_jar(&entry.name));
        let mut paths: Vec<HomePath> =
            there.filter_map(|entry| HomePath::parse(&format!("{dir}/{}", entry.name)).ok()).collect();
        let brought = self.subject.staged.keys().filter(|path| {
            let name = path.as_str().strip_prefix(dir).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| is_jar(name) && !name.contains('/'))
        });
        paths.extend(brought.cloned());
        paths.sort();
        paths.dedup();
        Ok(paths)
    }

    fn open(&self, path: &HomePath) -> Option<File> {
        match self.subject.staged.get(path) {
            Some(kept) => open_named(kept, LastPart::MayBeLink).ok(),
            None => Some(self.home.place(path, None).ok()?.open().ok()?.0),
        }
    }

    fn read<'w>(
        &self,
        path: &HomePath,
        classes: &[Class<'w>],
        (found, buffer): (&mut BTreeMap<&'w Wanted, String>, &mut [u8]),
    ) -> JarFact {
        let Some(file) = self.open(path) else { return JarFact::Unreadable };
        let Ok(archive) = ZipArchive::from_file(file, buffer) else { return JarFact::Unreadable };
        let mut entries = archive.entries(buffer);
        let mut holds_jars = false;
        for _ in 0..ENTRIES_MAX {
            let name = match entries.next_entry() {
                Ok(Some(entry)) => entry.file_path(),
                Ok(None) => return JarFact::Read { holds_jars },
                Err(_) => return JarFact::Unreadable,
            };
            let name: &[u8] = name.as_ref();
            holds_jars |= name.ends_with(b".jar");
            for class in classes.iter().filter(|class| class.file.as_bytes() == name) {
                found.entry(class.wanted).or_insert_with(|| path.to_string());
            }
        }
        JarFact::Unreadable
    }
}

/// As a file, unpacked, or brought by the bundle.
fn webapp(home: &Home, subject: &Subject, name: &str) -> ComponentFact {
    let war = format!("{name}.war");
    let brought = subject.staged.keys().find(|path| path.as_str() == format!("{WEBAPPS}/{war}"));
    if let Some(path) = brought {
        return ComponentFact::Found(path.to_string());
    }
    let dir = match HomePath::parse(WEBAPPS) {
        Ok(dir) => dir,
        Err(error) => return ComponentFact::NotLooked(error.to_string()),
    };
    match home.list(&dir, NAMES_MAX) {
        Ok(entries) => entries
            .iter()
            .find(|entry| if entry.is_dir { entry.name == name } else { entry.name == war })
            .map_or(ComponentFact::Absent, |entry| ComponentFact::Found(format!("{WEBAPPS}/{}", entry.name))),
        Err(error) => ComponentFact::NotLooked(crate::chain(&error)),
    }
}

#[cfg(test)]
mod tests;
