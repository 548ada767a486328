//! `node admit`: what is shown before anything is signed, and where the answer goes.

use std::{fs, path::Path};

use fleet::admission::Answer;
use tonic::Status;

use super::*;

fn request() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("request"), "a request").unwrap();
    let path = dir.path().join("request").display().to_string();
    (dir, path)
}

#[tokio::test]
async fn the_key_is_shown_before_it_is_asked_and_the_answer_is_the_output() {
    let (_dir, request) = request();
    let stage = Stage { terminal: SOMEBODY, typed_answer: "y\n", ..Stage::new(Script::default()) };
    let run = stage.run(&format!("node admit {request}")).await;
    assert_eq!(run.exit, Exit::Done, "{}", run.said);
    let key = format!("sha256:{}", "07".repeat(32));
    let (shown, asked) = (run.said.find(&key).unwrap(), run.said.find("[y/N]").unwrap());
    assert!(shown < asked, "{}", run.said);
    assert_eq!(
        run.asked,
        ["look at \"a request\" for \"\" replace false", "sign \"a request\" for \"\" replace false"]
    );
    assert_eq!(Answer::parse(&run.out).unwrap().node.as_str(), "is-1");
    assert!(run.said.contains("convoy-agent enroll --answer FILE"), "{}", run.said);
}

#[tokio::test]
async fn nothing_is_signed_without_a_yes_or_a_place_for_the_answer() {
    let (dir, request) = request();
    let taken = dir.path().join("taken");
    fs::write(&taken, "somebody's").unwrap();
    let no = Stage { terminal: SOMEBODY, typed_answer: "n\n", ..Stage::new(Script::default()) };
    let nobody = Stage::new(Script::default());
    let to = |out: &Path| format!("node admit {request} --yes --out {}", out.display());
    for (stage, line, said) in [
        (no, format!("node admit {request}"), "not confirmed"),
        (nobody, format!("node admit {request}"), "--yes was not given"),
        (Stage::new(Script::default()), to(&taken), "is there already"),
        (Stage::new(Script::default()), to(&dir.path().join("none/answer")), "nothing was signed"),
    ] {
        let run = stage.run(&line).await;
        assert_ne!(run.exit, Exit::Done, "{line}");
        assert!(run.said.contains(said), "{line}: {}", run.said);
        assert!(run.asked.iter().all(|asked| asked.starts_with("look at")), "{line}: {:?}", run.asked);
        assert_eq!(run.out, "", "{line}");
    }
    assert_eq!(fs::read_to_string(&taken).unwrap(), "somebody's");
    let run = Stage::new(Script::default()).run("node admit /no/such/file --yes").await;
    assert!(run.said.contains("cannot read the request /no/such/file"), "{}", run.said);
    assert_eq!(run.asked, [""; 0]);
}

#[tokio::test]
async fn a_refusal_leaves_no_file_and_taking_a_place_is_said() {
    let (dir, request) = request();
    let out = dir.path().join("answer");
    let line = format!("node admit {request} --node is-2 --replace --yes --out {}", out.display());
    let refusal = Some(Status::failed_precondition("is-2 is not declared"));
    let run = Stage::new(Script { refusal, ..Script::default() }).run(&line).await;
    assert_eq!(run.exit, Exit::Refused, "{}", run.said);
    assert!(!out.exists());
    let run = Stage::new(Script::default()).run(&line).await;
    assert_eq!(run.exit, Exit::Done, "{}", run.said);
    assert!(run.said.contains("This takes another host's place: is-1 joined 1h ago."), "{}", run.said);
    assert_eq!(Answer::parse(&fs::read_to_string(&out).unwrap()).unwrap().node.as_str(), "is-2");
    assert_eq!(run.out, "");
    let json = Stage::new(Script::default()).run(&format!("--json node admit {request} --yes")).await;
    let told: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(Answer::parse(told["answer"].as_str().unwrap()).is_ok(), "{told}");
}
