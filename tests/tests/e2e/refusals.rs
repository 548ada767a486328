//! Bad input is refused before anything is sent, with its place and what to do, and nothing changes on any node.

use std::{os::unix::fs::symlink, path::Path};

use anyhow::{Result, ensure};

use crate::small::{NODES, Small, common, ensure_holds, pid};

/// What is done to the directory, and what has to be said about it.
struct Bad {
    what: &'static str,
    spoil: fn(&Small) -> Result<()>,
    said: &'static [&'static str],
}

fn append(small: &Small, text: &str) -> Result<()> {
    let fleet = small.fleet.read("fleet.toml")?;
    small.fleet.write("fleet.toml", fleet + text)
}

fn node(name: &str, rest: &str) -> String {
    format!("\n[nodes.{name}]\ngroup = \"key-manager\"\n{rest}\n")
}

const BAD: &[Bad] = &[
    Bad {
        what: "a syntax error in a layer",
        spoil: |small| small.fleet.write("config/common.toml", "[server]\nhostname = = \"x\"\n"),
        said: &["config/common.toml:2:", "hostname = = "],
    },
    Bad {
        what: "an unknown key in fleet.toml",
        spoil: |small| append(small, "\n[groups.key-manager.rollouts]\n"),
        said: &["fleet.toml:", "rollouts"],
    },
    Bad {
        what: "a missing layer",
        spoil: |small| {
            append(
                small,
                &format!("{}layers = [\"nowhere\"]\n", node("is-3", "host = \"h\"\nhome = \"/opt/is-3\"")),
            )
        },
        said: &["fleet.toml:", "nowhere"],
    },
    Bad {
        what: "a cycle in after",
        spoil: |small| {
            append(
                small,
                "\n[groups.a]\nproduct = \"wso2is-7.2\"\nafter = [\"b\"]\n[groups.b]\nproduct = \"wso2is-7.2\"\nafter = [\"a\"]\n",
            )
        },
        said: &["fleet.toml:", "after"],
    },
    Bad {
        what: "two nodes with one home",
        spoil: |small| {
            let home = format!("host = \"127.0.0.1\"\nhome = {:?}\noffset = 9000", small.packs[0].home);
            append(small, &node("is-3", &home))
        },
        said: &["fleet.toml:", "home"],
    },
    Bad {
        what: "two nodes with one offset on one host",
        spoil: |small| {
            let offset = small.site.offset(0);
            append(
                small,
                &node("is-3", &format!("host = \"127.0.0.1\"\nhome = \"/opt/is-3\"\noffset = {offset}")),
            )
        },
        said: &["fleet.toml:", "offset"],
    },
    Bad {
        what: "an expression with an unknown name",
        spoil: |small| {
            small.fleet.write("config/common.toml", "[server]\nhostname = \"{{ values.nobody }}\"\n")
        },
        said: &["config/common.toml:2:", "nobody"],
    },
    Bad {
        what: "a file that is a link out of the directory",
        spoil: |small| {
            let at = small.fleet.path().join("files/key-manager");
            std::fs::create_dir_all(&at)?;
            Ok(symlink(Path::new("/etc/hostname"), at.join("stolen"))?)
        },
        said: &["files/key-manager/stolen", "leaves the fleet directory"],
    },
    Bad {
        what: "a file name that is no path below a home",
        spoil: |small| small.fleet.write("files/key-manager/a\\b.txt", "x"),
        said: &["files/key-manager/a", "b.txt"],
    },
    Bad {
        what: "a file over the size limit",
        spoil: |small| small.fleet.write("files/key-manager/lib/large.jar", vec![0; 8 * 1024 * 1024 + 1]),
        said: &["files/key-manager/lib/large.jar", "8 MiB"],
    },
    Bad {
        what: "an unknown product",
        spoil: |small| append(small, "\n[groups.odd]\nproduct = \"wso2is-99\"\n"),
        said: &["fleet.toml:", "wso2is-99"],
    },
];

#[tokio::test]
async fn bad_input_is_refused_everywhere_and_changes_nothing() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    let operator = small.site.operator();
    let mut before = Vec::new();
    for (index, name) in NODES.into_iter().enumerate() {
        before.push((pid(&small.ready(name).await?)?, small.config_text(index)?));
    }
    let revision = operator.json(["status"]).await?["revision"].clone();
    let good = small.fleet.read("fleet.toml")?;

    for bad in BAD {
        small.fleet.write("fleet.toml", &good)?;
        small.fleet.write("config/common.toml", common("first"))?;
        let files = small.fleet.path().join("files");
        if files.exists() {
            std::fs::remove_dir_all(files)?;
        }
        (bad.spoil)(&small)?;
        for words in [&["lint"][..], &["plan"], &["apply", "--yes"]] {
            let all = words.iter().map(AsRef::as_ref).chain([small.fleet.arg()]);
            let ran = operator.run(all).await?;
            let said = format!("{}{}", ran.out, ran.said);
            ensure!(ran.code == 1, "{}: {words:?} ended with {}:\n{said}", bad.what, ran.code);
            ensure_holds(&said, bad.said)?;
            ensure!(said.contains("help: ") || said.contains("next: "), "{}: no remedy:\n{said}", bad.what);
            ensure!(!said.contains("hunter2"), "{}: a secret is shown:\n{said}", bad.what);
        }
    }

    let status = operator.json(["status"]).await?;
    ensure!(status["revision"] == revision, "a revision was made: {status:#}");
    for (index, name) in NODES.into_iter().enumerate() {
        let now = (pid(&small.ready(name).await?)?, small.config_text(index)?);
        ensure!(now == before[index], "{name} changed");
    }
    Ok(())
}

#[tokio::test]
async fn guards_refuse_with_3_and_say_what_to_do() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();

    let ran = operator.run(["apply".as_ref(), small.fleet.arg()]).await?;
    ensure!(ran.code == 3, "unconfirmed: {ran:?}");
    ensure_holds(&ran.said, &["--yes"])?;
    ensure!(operator.json(["status"]).await?["revision"] == 0, "something was applied");

    small.apply().await?;
    small.fleet.write("config/common.toml", common("second"))?;
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--parent".as_ref(), "0".as_ref()];
    let ran = operator.run(words).await?;
    ensure!(ran.code == 3, "stale parent: {ran:?}");
    ensure_holds(&ran.said, &["next:"])?;

    let ran = operator.run(["rollout", "pause"]).await?;
    ensure!(ran.code == 3, "nothing to pause: {ran:?}");
    let ran = operator.run(["node", "show", "Nobody!"]).await?;
    ensure!(ran.code == 2, "not a name: {ran:?}");
    let ran = operator.run(["node", "show", "nobody"]).await?;
    ensure!(ran.code == 1, "no such node: {ran:?}");
    Ok(())
}
