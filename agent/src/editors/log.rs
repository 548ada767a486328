//! Who wrote which file since it was last known to be as desired. Decides by order alone; reads nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use fleet::{
    bundle::HomePath,
    editor::{EDITORS_MAX, Editor},
};

/// A process that wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writer {
    /// When it began, in ticks of the host: a later process of its number is another one. `None`: it was not seen alive.
    pub start: Option<u64>,
    /// What is known of it.
    pub editor: Editor,
}

#[derive(Debug, Clone)]
struct Touch {
    writer: Writer,
    /// When its last event was read; it may have happened a little earlier, and never later.
    read: Instant,
}

#[derive(Debug, Default)]
struct File {
    /// Newest last.
    touches: Vec<Touch>,
    /// Those before the agent's last rename over it, and when that was read.
    before: Option<(Instant, Vec<Touch>)>,
}

/// All managed files.
#[derive(Debug, Default)]
pub(super) struct Log {
    files: BTreeMap<HomePath, File>,
}

impl Log {
    /// Only these files are of interest from now on.
    pub(super) fn keep(&mut self, paths: &BTreeSet<HomePath>) {
        self.files.retain(|path, _| paths.contains(path));
    }

    /// Somebody else than the agent changed the file, or what it is.
    pub(super) fn touched(&mut self, path: &HomePath, writer: Writer, read: Instant) {
        let touches = &mut self.files.entry(path.clone()).or_default().touches;
        let same = |touch: &Touch| {
            let known = &touch.writer;
            known.editor.pid == writer.editor.pid
                && (known.start == writer.start || known.start.is_none() || writer.start.is_none())
        };
        // What was known of it while it lived is worth more than what is known after its end.
        let writer = match touches.iter().position(same).map(|at| touches.remove(at).writer) {
            Some(known) if !writer.editor.is_known() => known,
            _ => writer,
        };
        touches.push(Touch { writer, read });
        if EDITORS_MAX < touches.len() {
            touches.remove(0);
        }
    }

    /// The agent renamed its own content over the file: whoever wrote before is not who writes next.
    pub(super) fn placed(&mut self, path: &HomePath, read: Instant) {
        let file = self.files.entry(path.clone()).or_default();
        file.before = Some((read, std::mem::take(&mut file.touches)));
    }

    /// Events were lost: somebody may have written any file.
    pub(super) fn lost(&mut self, paths: &BTreeSet<HomePath>, read: Instant) {
        for path in paths {
            self.touched(path, Writer { start: None, editor: Editor::default() }, read);
        }
    }

    /// A look that began at `begun` found the file as desired: what was read by then did no harm.
    pub(super) fn clean(&mut self, path: &HomePath, begun: Instant) {
        if let Some(file) = self.files.get_mut(path) {
            file.touches.retain(|touch| begun <= touch.read);
        }
    }

    /// Who has written what lies there now, newest first.
    pub(super) fn so_far(&self, path: &HomePath) -> Vec<Editor> {
        self.files.get(path).map_or_else(Vec::new, |file| editors(&file.touches))
    }

    /// Who had written what a restore that began at `begun` replaced; `None`: its rename was not read yet.
    pub(super) fn replaced(&mut self, path: &HomePath, begun: Instant) -> Option<Vec<Editor>> {
        let file = self.files.get_mut(path)?;
        let (_, touches) = file.before.take_if(|(read, _)| begun <= *read)?;
        Some(editors(&touches))
    }
}

/// Newest first. The server's own writing is no edit, unless it is not the only one.
fn editors(touches: &[Touch]) -> Vec<Editor> {
    if touches.iter().all(|touch| touch.writer.editor.is_server) {
        return Vec::new();
    }
    touches.iter().rev().map(|touch| touch.writer.editor.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn path() -> HomePath {
        HomePath::parse("repository/conf/deployment.toml").unwrap()
    }

    fn writer(pid: u32, process: &str) -> Writer {
        let editor = Editor { pid, process: process.into(), ..Editor::default() };
        Writer { start: (!process.is_empty()).then_some(u64::from(pid)), editor }
    }

    fn names(editors: &[Editor]) -> String {
        let names = editors.iter().map(|editor| format!("{}{}", editor.process, editor.pid));
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_restore_is_between_one_edit_and_the_next() {
        let (mut log, path, begin) = (Log::default(), path(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        log.touched(&path, writer(1, "sed"), at(1));
        log.touched(&path, writer(1, "sed"), at(2));
        assert_eq!(names(&log.so_far(&path)), "sed1");
        assert_eq!(log.replaced(&path, at(3)), None, "its rename was not read");
        log.placed(&path, at(4));
        log.touched(&path, writer(2, "vim"), at(5));
        assert_eq!(names(&log.replaced(&path, at(3)).unwrap()), "sed1");
        assert_eq!(log.replaced(&path, at(3)), None, "told once");
        assert_eq!(names(&log.so_far(&path)), "vim2");
    }

    #[test]
    fn two_who_wrote_are_both_told_and_one_that_ended_is_not_forgotten() {
        let (mut log, path, begin) = (Log::default(), path(), Instant::now());
        log.touched(&path, writer(1, "sed"), begin);
        log.touched(&path, writer(2, ""), begin);
        assert_eq!(names(&log.so_far(&path)), "2 sed1");
        // It was seen alive before.
        log.touched(&path, writer(1, ""), begin);
        assert_eq!(names(&log.so_far(&path)), "sed1 2");
        for pid in 3..9 {
            log.touched(&path, writer(pid, "sh"), begin);
        }
        assert_eq!(names(&log.so_far(&path)), "sh8 sh7 sh6");
        // Another process of the same number.
        log.touched(&path, Writer { start: Some(1), ..writer(8, "cp") }, begin);
        assert_eq!(names(&log.so_far(&path)), "cp8 sh8 sh7");
    }

    #[test]
    fn what_did_no_harm_is_forgotten_but_not_what_may_have_come_after_the_look() {
        let (mut log, path, begin) = (Log::default(), path(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        log.touched(&path, writer(1, "sed"), at(1));
        log.touched(&path, writer(2, "cp"), at(5));
        log.clean(&path, at(3));
        assert_eq!(names(&log.so_far(&path)), "cp2");
        log.lost(&BTreeSet::from([path.clone()]), at(6));
        assert_eq!(log.so_far(&path)[0], Editor::default(), "nobody is named for what was not seen");
    }

    #[test]
    fn the_server_is_named_only_beside_somebody() {
        let (mut log, path, begin) = (Log::default(), path(), Instant::now());
        let mut server = writer(7, "java");
        server.editor.is_server = true;
        log.touched(&path, server, begin);
        assert_eq!(log.so_far(&path), []);
        log.touched(&path, writer(1, "sed"), begin);
        assert_eq!(names(&log.so_far(&path)), "sed1 java7");
    }
}
