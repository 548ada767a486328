//! Tokens of many nodes, each in a file of its own.

use std::{fs, path::Path};

use super::*;

fn fleet_of(nodes: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut text =
        "name = \"acme\"\n\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n".to_owned();
    for node in nodes {
        write!(
            text,
            "\n[nodes.{node}]\ngroup = \"km\"\nhost = \"{node}.acme.internal\"\nhome = \"/opt/is\"\n"
        )
        .unwrap();
    }
    fs::create_dir(dir.path().join("config")).unwrap();
    fs::write(dir.path().join("config/common.toml"), "[server]\nhostname = \"{{ node.host }}\"\n").unwrap();
    fs::write(dir.path().join("fleet.toml"), text).unwrap();
    dir
}

fn files_of(out: &Path) -> Vec<(String, String)> {
    let names = fs::read_dir(out).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = names
        .map(|entry| {
            (entry.file_name().to_str().unwrap().to_owned(), fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn each_node_without_certificate_gets_a_file_with_its_token() {
    let fleet = fleet_of(&["is-1", "is-2", "is-3"]);
    let out = fleet.path().join("new/tokens");
    let line =
        format!("token create --all-missing {} --out {} --valid 2d", fleet.path().display(), out.display());
    let script = || Script { joined: vec!["is-2".to_owned()], ..Script::default() };
    let run = Stage::new(script()).run(&line).await;
    assert_eq!(run.exit, Exit::Done, "{}", run.said);
    let token = |node: &str| (node.to_owned(), format!("convoy-join-of-{node}\n"));
    assert_eq!(files_of(&out), [token("is-1"), token("is-3")]);
    assert_eq!(run.out, "", "tokens are in the files only");
    assert!(
        run.said.starts_with("2 join tokens in ")
            && run.said.contains("Of 3 nodes in the directory, 1 joined before")
    );
    assert_eq!(
        run.asked,
        [
            "look for tokens of acme for is-1 is-2 is-3 valid 0 s",
            "make tokens of acme for is-1 is-3 valid 172800 s"
        ]
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&out), mode(&out.join("is-1"))), (0o700, 0o600));
    }

    // Somebody may be about to use them, so they stay, and no other tokens are made.
    let run = Stage::new(script()).run(&line).await;
    assert_eq!(run.exit, Exit::Refused);
    assert!(run.said.contains("tokens/is-1 is there already"), "{}", run.said);
    assert_eq!(run.asked.len(), 1, "{:?}", run.asked);

    // Files of nodes that have joined since are in nobody's way.
    let script = Script { joined: ["is-1", "is-2", "is-3"].map(str::to_owned).to_vec(), ..Script::default() };
    let run = Stage::new(script).run(&format!("--json {line}")).await;
    assert_eq!((run.exit, run.said.as_str()), (Exit::Done, ""));
    let told: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(told, serde_json::json!({"nodes": 3, "files": []}));
}

#[tokio::test]
async fn a_directory_with_errors_and_one_that_cannot_be_written_make_no_tokens() {
    let fleet = fleet_of(&["is-1"]);
    let (dir, file) = (fleet.path().display(), fleet.path().join("fleet.toml"));
    let line = format!("token create --all-missing {dir} --out {}/x", file.display());
    let run = Stage::new(Script::default()).run(&line).await;
    assert_eq!(run.exit, Exit::Failed);
    assert!(run.said.contains("cannot write") && run.asked.len() == 1, "{} {:?}", run.said, run.asked);
    fs::write(&file, "name = \"acme\"\n[nodes.is-1]\ngroup = \"none\"\n").unwrap();
    let run = Stage::new(Script::default()).run(&line).await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Failed, 0));
    assert!(run.said.contains("has errors") && run.said.contains("convoy lint"), "{}", run.said);
}

#[test]
fn a_node_and_a_directory_are_not_typed_together() {
    for line in
        ["", "--node is-1 --all-missing x --out y", "--all-missing x", "--out y", "--node is-1 --out y"]
    {
        let words = ["convoy", "token", "create"].into_iter().chain(line.split_whitespace());
        assert!(args::Typed::try_parse_from(words).is_err(), "{line}");
    }
}
