use std::{
    io,
    sync::{Arc, Mutex},
};

use clap::Parser as _;

use super::*;
use crate::screen::{Format, Terminal};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn meant(words: &[&str]) -> Result<Import, Failure> {
    let words = ["convoy", "import"].iter().chain(words);
    let typed = args::Typed::try_parse_from(words).unwrap();
    match typed.command {
        args::Command::Import(typed) => Import::meant(typed),
        _ => panic!("another command"),
    }
}

fn run(words: &[&str]) -> (Result<Exit, Failure>, String) {
    let sink = Sink::default();
    let terminal = Terminal { can_ask: false, is_live: false, colour: false, width: None };
    let input = Box::new(io::BufReader::new(io::empty()));
    let mut screen =
        Screen::over(Box::new(sink.clone()), Box::new(io::sink()), input, terminal, Format::People);
    let outcome = meant(words).and_then(|request| execute(&request, &mut screen));
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    (outcome, text)
}

const IS: &str =
    "[server]\nhostname = \"iam.example.org\"\n[super_admin]\npassword = \"tell-nobody\"\n[oauth]\na = 1\n";

#[test]
fn a_home_becomes_a_fleet_directory_and_a_secrets_file() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("wso2is-7.1.0");
    fs::create_dir_all(home.join("repository/conf")).unwrap();
    fs::create_dir_all(home.join("bin")).unwrap();
    fs::write(home.join(CONFIG), IS).unwrap();
    fs::write(home.join(VERSION), "WSO2 Identity Server v7.1.0\n").unwrap();
    let (out, secrets_out) = (dir.path().join("acme"), dir.path().join("acme.secrets"));
    let node = format!("is-1={}", home.display());
    let words = [&*node, "--out", out.to_str().unwrap()];
    let refused = run(&words).0.unwrap_err();
    assert!(refused.remedy.contains("--secrets-out"), "{refused}");
    assert!(!out.exists());

    let with_secrets = [&words[..], &["--secrets-out", secrets_out.to_str().unwrap()]].concat();
    let (outcome, text) = run(&with_secrets);
    assert_eq!(outcome.unwrap(), Exit::Done, "{text}");
    assert!(text.contains("(wso2is-7.1): is-1") && text.contains("1 password is in"), "{text}");
    assert!(!text.contains("tell-nobody") && !text.contains("is a guess"), "{text}");
    assert!(fs::read_to_string(out.join("fleet.toml")).unwrap().contains("name = \"acme\""));
    assert!(!fs::read_to_string(out.join("config/common.toml")).unwrap().contains("tell-nobody"));
    let kept = secrets::read(&secrets_out).unwrap();
    assert_eq!(kept.values().next().unwrap().expose(), "tell-nobody");

    let again = run(&with_secrets).0.unwrap_err();
    assert!(again.what.contains("is not empty"), "{again}");
    fs::remove_dir_all(&out).unwrap();
    let again = run(&with_secrets).0.unwrap_err();
    assert!(again.what.contains("is there already"), "{again}");
    assert!(!out.exists());
}

#[test]
fn a_file_for_secrets_that_was_asked_for_is_there_although_there_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("deployment.toml");
    fs::write(&file, "[server]\nhostname = \"iam.example.org\"\n").unwrap();
    let (out, secrets_out) = (dir.path().join("acme"), dir.path().join("acme.secrets"));
    let node = format!("is-1={}", file.display());
    let words = [&*node, "--out", out.to_str().unwrap(), "--product", "is-1=wso2is-7.1"];
    let more = ["--secrets-out", secrets_out.to_str().unwrap(), "--home", "is-1=/opt/is"];
    let (outcome, text) = run(&[&words[..], &more].concat());
    assert_eq!(outcome.unwrap(), Exit::Done, "{text}");
    assert!(text.contains("is empty"), "{text}");
    assert_eq!(secrets::read(&secrets_out).unwrap().len(), 0, "the next command finds a file");
}

#[test]
fn wrong_words_and_files_are_told_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.toml");
    fs::write(&broken, "[a]\nb = \n").unwrap();
    let out = dir.path().join("out").display().to_string();
    let broken = format!("is-1={}", broken.display());
    for (words, what) in [
        (vec!["is-1=a", "is-1=b", "--out", &out], "given twice"),
        (vec!["is-1", "--out", &out], "given without a file"),
        (vec!["IS", "--out", &out], "holds 'I'"),
        (vec!["IS=a", "--out", &out], "holds 'I'"),
        (vec!["is-1=a", "--out", &out, "--host", "is-2=h"], "no node is-2 is imported"),
        (vec!["is-1=/no/such/file", "--out", &out], "cannot read /no/such/file"),
    ] {
        let failure = run(&words).0.unwrap_err();
        assert!(failure.what.contains(what), "{words:?}: {failure}");
        assert!(!failure.remedy.is_empty());
    }
    let (outcome, text) = run(&[&broken, "--out", &out]);
    assert_eq!(outcome.unwrap(), Exit::Failed);
    assert!(text.contains("broken.toml:2:"), "{text}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_was_said_stands_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    // One that is there and empty will do.
    let out = dir.path().join("new");
    fs::create_dir(&out).unwrap();
    let file = dir.path().join("gw.toml");
    fs::write(&file, "[server]\nserver_role = \"gateway-worker\"\n[oauth]\nclient_secret = \"own\"\n")
        .unwrap();
    let (one, two) = (format!("gw-1={}", file.display()), format!("gw-2={}", file.display()));
    let place = |below: &str| dir.path().join(below).display().to_string();
    let (inside, beside, new) = (place("new/secrets"), place("secrets"), place("new"));
    let words = |secrets: &str| {
        let words = format!(
            "{one} {two} --out {new} --fleet acme-prod --product *=4.2 --host gw-1=h1 --host gw-2=h2 \
             --home gw-1=/srv/a --home gw-2=/srv/b --secrets-out {secrets}"
        );
        run(&words.split_whitespace().collect::<Vec<_>>())
    };
    let refused = words(&inside).0.unwrap_err();
    assert!(refused.what.contains("is in the fleet directory"), "{refused}");
    let (outcome, text) = words(&beside);
    assert_eq!(outcome.unwrap(), Exit::Done, "{text}");
    let fleet = fs::read_to_string(out.join("fleet.toml")).unwrap();
    for wanted in [
        "\"acme-prod\"",
        "wso2am-4.2-gateway-worker",
        "host = \"h1\"\nhome = \"/srv/a\"",
        "host = \"h2\"\nhome = \"/srv/b\"",
    ] {
        assert!(fleet.contains(wanted), "{wanted} is not in\n{fleet}");
    }
}

#[test]
fn other_files_of_a_home_are_left_there_and_unequal_values_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("wso2is-7.1.0");
    fs::create_dir_all(home.join("repository/conf")).unwrap();
    fs::create_dir_all(home.join("bin")).unwrap();
    fs::write(home.join(CONFIG), "[server]\nhostname = \"iam.example.org\"\n[oauth]\na = 1\n").unwrap();
    fs::write(home.join(VERSION), "WSO2 Identity Server v7.1.0\n").unwrap();
    fs::write(home.join("repository/conf/log4j2.properties"), "rootLogger.level = INFO\n").unwrap();
    let second = dir.path().join("second.toml");
    fs::write(&second, "[server]\nhostname = \"iam.example.org\"\n[oauth]\na = 2\n").unwrap();
    let out = dir.path().join("acme");
    let words = format!(
        "is-1={} is-2={} --product is-2=7.1 --out {}",
        home.display(),
        second.display(),
        out.display()
    );
    let (outcome, text) = run(&words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(outcome.unwrap(), Exit::Done, "{text}");
    assert!(text.contains("oauth.a differs in"), "{text}");
    assert!(!out.join("files").exists());
    let fleet = fs::read_to_string(out.join("fleet.toml")).unwrap();
    let told = fs::canonicalize(&home).unwrap();
    assert!(fleet.contains(&format!("home = {:?}", told.display().to_string())), "{fleet}");
}

#[test]
fn what_cannot_be_put_in_place_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("is.toml");
    fs::write(&file, IS).unwrap();
    let secrets_out = dir.path().join("secrets");
    let files = |out: &Path| {
        let words = format!(
            "is-1={} --product is-1=wso2is-7.1 --out {} --secrets-out {}",
            file.display(),
            out.display(),
            secrets_out.display()
        );
        run(&words.split_whitespace().collect::<Vec<_>>()).0
    };
    // A file where the directory's parent should be.
    let refused = files(&file.join("below")).unwrap_err();
    assert!(refused.remedy.contains("--out"), "{refused}");
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["is.toml"], "something was left");
    // So the same command works elsewhere.
    assert_eq!(files(&dir.path().join("acme")).unwrap(), Exit::Done);
    let mut left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["acme", "is.toml", "secrets"]);
}
