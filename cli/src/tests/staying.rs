//! Commands that stay, or whose input and output end badly.

use super::*;

#[tokio::test]
async fn a_closed_pipe_is_not_a_failure_and_a_full_disk_is() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for (kind, exit) in [(io::ErrorKind::BrokenPipe, Exit::Done), (io::ErrorKind::StorageFull, Exit::Failed)]
    {
        let (client, _) = fake::serve(Script::default()).await;
        let out = Box::new(Broken(kind));
        let screen = Screen::over(out, Box::new(io::sink()), Box::new(io::empty()), NOBODY, Format::People);
        let interrupt = Interrupt::Given(watch::channel(false).1);
        let mut session = Session { client, seen: None, screen, interrupt, now: || When(0) };
        assert_eq!(execute(Remote::Nodes, &mut session).await, exit);
    }
}

#[tokio::test]
async fn secrets_go_in_by_a_pipe_or_a_file_and_only_their_names_come_out() {
    let script =
        || Script { command: message::CommandReply { ok: true, ..Default::default() }, ..Script::default() };
    let mut stage = Stage::new(script());
    stage.typed_answer = "tell-nobody\n";
    let run = stage.run("secret set db").await;
    assert_eq!((run.exit, &*run.asked), (Exit::Done, &["set secret db to \"tell-nobody\"".to_owned()][..]));
    assert!(!format!("{}{}", run.out, run.said).contains("tell-nobody"));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acme.secrets");
    let name = |text: &str| fleet::spec::SecretName::parse(text).unwrap();
    let value = |text: &str| fleet::spec::Secret::new(text);
    let values = [(name("a"), value("1")), (name("b"), value("2"))].into_iter().collect();
    crate::secrets::write(&file, &values).unwrap();
    let run = Stage::new(script()).run(&format!("secret set --from {}", file.display())).await;
    assert_eq!(run.asked, ["set secret a to \"1\"", "set secret b to \"2\""]);
    assert!(run.out.starts_with("2 secrets are set"), "{}", run.out);

    let run = Stage::new(script()).run("secret list").await;
    assert_eq!(run.out, "SECRET  SET     BY   GRANTED TO\ndb      1m ago  ann  -\n");
    let run = Stage::new(script()).run("secret remove db").await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0));
    let run = Stage::new(script()).run("secret remove db --yes").await;
    assert_eq!(run.asked, ["remove secret db"]);

    let mut stage = Stage::new(script());
    stage.terminal = SOMEBODY;
    let run = stage.run("secret set db").await;
    assert!(run.exit == Exit::Usage && run.said.contains("a terminal would show it"), "{}", run.said);
}

#[test]
fn a_command_line_that_does_not_parse_is_told_to_programs_too() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    for (line, what, remedy) in [
        ("convoy --json apply", "required arguments were not provided", "Usage: convoy apply"),
        ("convoy stats --json", "unrecognized subcommand 'stats'", "'status'"),
        ("convoy rollback three --json", "invalid value 'three'", "--help"),
    ] {
        assert!(asks_for_json(&words(line)), "{line}");
        let failure = mistyped(&parsed(&words(line)).unwrap_err());
        assert_eq!(failure.exit, Exit::Usage, "{line}");
        assert!(failure.what.contains(what) && !failure.what.contains('\n'), "{line}: {failure:?}");
        assert!(failure.remedy.contains(remedy), "{line}: {failure:?}");
    }
    assert!(!asks_for_json(&words("convoy secret set -- --json")));
}

/// Runs a command that stays, over a stream that breaks after its first answer, until `end` is shown.
pub(super) async fn stay(script: Script, remote: Remote, end: &'static str) -> Run {
    let (client, shared) = fake::serve(Script { breaks: true, ..script }).await;
    let (out, said) = (Buffer::default(), Buffer::default());
    let input = Box::new(io::empty());
    let screen = Screen::over(Box::new(out.clone()), Box::new(said.clone()), input, NOBODY, Format::People);
    let (sender, interrupt) = watch::channel(false);
    let interrupt = Interrupt::Given(interrupt);
    let mut session = Session { client, seen: None, screen, interrupt, now: || When(1_800_000_060_000) };
    let watched = out.clone();
    let ending = tokio::spawn(async move {
        while !watched.text().contains(end) {
            tokio::task::yield_now().await;
        }
        sender.send_replace(true);
    });
    let exit = execute(remote, &mut session).await;
    ending.await.unwrap();
    let asked = shared.lock().unwrap().asked.clone();
    Run { exit, out: out.text(), said: said.text(), asked }
}

/// `events --follow`, from the last 50 on.
pub fn followed_events() -> Remote {
    Remote::Events(request::Events {
        follow: true,
        node: None,
        group: None,
        kinds: Vec::new(),
        actor: None,
        since: None,
        until: None,
        last: Some(50),
        after: None,
    })
}

#[tokio::test]
async fn events_are_followed_over_a_restart_of_the_coordinator_and_none_is_shown_twice() {
    let event = |seq: u64| message::Event {
        seq,
        at_ms: 1_800_000_000_000,
        kind: "step".into(),
        text: format!("event number {seq}"),
        ..message::Event::default()
    };
    let script = Script { events: [4, 5, 6].map(event).into(), ..Script::default() };
    let run = stay(script, followed_events(), "event number 6").await;
    assert_eq!(run.exit, Exit::Done);
    assert_eq!(run.asked, ["events after 0 most 50", "events after 4 most 0"]);
    for seq in [4, 5, 6] {
        assert_eq!(run.out.matches(&format!("event number {seq}")).count(), 1, "{}", run.out);
    }
    assert!(run.said.contains("does not answer just now; trying again"), "{}", run.said);
}

#[tokio::test]
async fn the_status_is_watched_over_a_restart_of_the_coordinator() {
    let status = |revision| message::StatusReply { fleet: "acme".into(), revision, ..Default::default() };
    let script = Script { watched: [status(6), status(7)].into(), ..Script::default() };
    let run = stay(script, Remote::Status { watch: true }, "revision 7").await;
    assert_eq!(run.exit, Exit::Done);
    assert_eq!(run.out.matches("revision 6").count(), 1, "{}", run.out);
    assert!(run.said.contains("does not answer just now; trying again"), "{}", run.said);
}
