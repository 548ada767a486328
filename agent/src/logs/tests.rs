use std::{fs, io::Write as _, os::unix::fs::symlink};

use super::*;

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(FOLDER)).unwrap();
        fs::create_dir_all(dir.path().join("console")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(FOLDER).join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append(&self.path(name), text);
    }

    fn ask(&self, question: &LogQuestion) -> Result<LogPart, String> {
        let console = self.dir.path().join("console");
        part(&Place { home: self.dir.path().to_str().unwrap(), console: &console }, question)
    }

    /// Every line from there on, and what was noted.
    fn all(&self, mut question: LogQuestion) -> (Vec<String>, Vec<String>, Position) {
        let (mut lines, mut notes) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            let part = self.ask(&question).unwrap();
            assert!(part.lines.iter().map(|line| line.len() + 1).sum::<usize>() <= PART_MAX);
            lines.extend(part.lines);
            notes.extend(part.notes);
            question.begin = Begin::After(part.next);
            if !part.more {
                return (lines, notes, part.next);
            }
        }
        panic!("a log without end");
    }
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn asked(log: Log, begin: Begin) -> LogQuestion {
    LogQuestion { log, begin, since: None, grep: None }
}

#[test]
fn the_last_lines_are_read_and_what_comes_after_them_once() {
    let home = Home::new();
    (0..10).for_each(|number| home.append("wso2carbon.log", &format!("line {number}\n")));
    home.append("wso2carbon.log", "half");
    let (lines, notes, next) = home.all(asked(Log::Carbon, Begin::Last(3)));
    assert_eq!((lines, notes.len()), (vec!["line 7".to_owned(), "line 8".into(), "line 9".into()], 0));
    home.append("wso2carbon.log", " a line\r\nand");
    let (lines, _, next) = home.all(asked(Log::Carbon, Begin::After(next)));
    assert_eq!(lines, ["half a line"], "a line is shown once it is whole");
    assert_eq!(home.all(asked(Log::Carbon, Begin::After(next))).0, [""; 0]);
}

#[test]
fn a_log_that_is_renamed_or_copied_and_cut_is_followed_without_a_gap() {
    let home = Home::new();
    home.append("wso2carbon.log", "one\n");
    let next = home.all(asked(Log::Carbon, Begin::Last(5))).2;
    home.append("wso2carbon.log", "two\n");
    fs::rename(home.path("wso2carbon.log"), home.path("wso2carbon-11-29-2026.log")).unwrap();
    home.append("wso2carbon.log", "three\n");
    let (lines, notes, _) = home.all(asked(Log::Carbon, Begin::After(next)));
    assert_eq!((lines, notes), (vec!["two".to_owned(), "three".into()], Vec::new()));

    let console = home.dir.path().join("console/server.log");
    append(&console, "one\n");
    let next = home.all(asked(Log::Console, Begin::Last(5))).2;
    append(&console, "two\n");
    fs::copy(&console, console.with_extension("log.1")).unwrap();
    fs::OpenOptions::new().write(true).open(&console).unwrap().set_len(0).unwrap();
    append(&console, "3\n");
    let (lines, notes, next) = home.all(asked(Log::Console, Begin::After(next)));
    assert_eq!((lines, notes), (vec!["two".to_owned(), "3".into()], Vec::new()));
    let other = console.with_extension("new");
    append(&other, "4\n");
    fs::rename(other, &console).unwrap();
    let (lines, notes, _) = home.all(asked(Log::Console, Begin::After(next)));
    assert!(lines == ["4"] && notes[0].contains("removed"), "{lines:?} {notes:?}");
}

#[test]
fn since_a_time_goes_through_rotated_files_and_says_what_it_left_out() {
    let home = Home::new();
    home.append("wso2carbon-01-01-2026.log", "[2026-01-01 08:00:00,000] INFO - early\n\tat a.b.C\n");
    home.append("wso2carbon-01-01-2026.log", "[2026-01-02 08:00:00,000] ERROR - late\n\tat d.e.F\n");
    home.append("wso2carbon.log", "[2026-01-03 08:00:00,000] INFO - latest\n");
    home.append("audit.log", "[2026-01-03 08:00:00,000] other\n");
    fs::write(home.path("wso2carbon-12-31-2025.log.gz"), "x").unwrap();
    let at = |day| utc(LineTime { date: (2026, 1, day), time: (0, 0, 0) });
    let since = |day| LogQuestion { since: at(day), ..asked(Log::Carbon, Begin::Since) };
    let (lines, notes, _) = home.all(since(2));
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].contains("late") && lines[1].contains("d.e.F") && lines[2].contains("latest"));
    assert!(notes[0].contains("1 compressed"), "{notes:?}");
    let grep = LogQuestion { grep: Some("latest".to_owned()), ..since(1) };
    assert_eq!(home.all(grep).0.len(), 1);
}

#[test]
fn a_long_log_comes_in_bounded_parts_and_a_line_without_end_is_passed_over() {
    let home = Home::new();
    let wanted: Vec<String> = (0..5_000).map(|number| format!("line {number} is not short at all")).collect();
    home.append("wso2carbon.log", &(wanted.join("\n") + "\n"));
    let since = LogQuestion { since: Some(Timestamp(0)), ..asked(Log::Carbon, Begin::Since) };
    assert_eq!(home.all(since.clone()).0, wanted);
    let file = fs::OpenOptions::new().write(true).open(home.path("wso2carbon.log")).unwrap();
    file.set_len(2 << 30).unwrap();
    home.append("wso2carbon.log", "\nthe end\n");
    let (lines, notes, _) = home.all(since);
    assert_eq!(lines.last().unwrap(), "the end");
    assert!(notes[0].contains("64 MiB") && lines.iter().all(|line| line.len() < 7 * LINE_MAX), "{notes:?}");
    assert_eq!(home.all(asked(Log::Carbon, Begin::Last(1))).0, ["the end"]);
}

#[test]
fn secrets_cannot_be_read_nor_searched_for_and_links_lead_nowhere() {
    let home = Home::new();
    let config = home.dir.path().join(CONFIG);
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(config, "[super_admin]\npassword = 'Hunter2-x'\n").unwrap();
    home.append("audit.log", "admin tried Hunter2-x\npassword=other-one\n");
    let (lines, _, _) = home.all(asked(Log::Audit, Begin::Last(9)));
    assert_eq!(lines, ["admin tried ********", "password=********"]);
    for text in ["Hunter2-x", "other-one"] {
        let question = LogQuestion { grep: Some(text.to_owned()), ..asked(Log::Audit, Begin::Last(9)) };
        assert_eq!(home.all(question).0, [""; 0]);
    }
    symlink("/etc/passwd", home.path("wso2carbon.log")).unwrap();
    let refused = home.ask(&asked(Log::Carbon, Begin::Last(9))).unwrap_err();
    assert!(refused.contains("link"), "{refused}");
    // A rotated part that is a link is one less.
    fs::remove_file(home.path("wso2carbon.log")).unwrap();
    symlink("/etc/passwd", home.path("wso2carbon-01-01-2026.log")).unwrap();
    home.append("wso2carbon.log", "plain\n");
    let since = LogQuestion { since: Some(Timestamp(0)), ..asked(Log::Carbon, Begin::Since) };
    assert_eq!(home.all(since).0, ["plain"]);
    assert!(home.ask(&asked(Log::Console, Begin::Last(9))).unwrap_err().contains("--carbon"));
}
