use std::{fs, process};

use super::*;

fn files(paths: &[&str]) -> Sources {
    Sources(paths.iter().map(|path| ((*path).to_owned(), Vec::new())).collect())
}

fn changed_of(status: &[&str], prefix: &str, of: &[&str]) -> Vec<String> {
    let status: String = status.iter().map(|entry| format!("{entry}\0")).collect();
    changed(&status, prefix, &files(of)).into_iter().collect()
}

#[test]
fn what_is_uploaded_and_not_as_committed_counts_and_nothing_else() {
    let of = ["config/base.toml", "config/own/a.toml", "config/own/b.toml", "fleet.toml"];
    let none = [""; 0];
    assert_eq!(changed_of(&[], "", &of), none);
    assert_eq!(changed_of(&[" M fleet.toml", "?? config/base.toml"], "", &of), [of[0], of[3]]);
    // Another part of the repository, and files that are not uploaded.
    assert_eq!(changed_of(&[" M fleet.toml", "?? prod/README.md", " M prod/.ci.yml"], "prod/", &of), none);
    assert_eq!(changed_of(&[" M prod/fleet.toml"], "prod/", &of), of[3..]);
    // An ignored directory, and a submodule.
    assert_eq!(changed_of(&["!! config/own/"], "", &of), of[1..3]);
    assert_eq!(changed_of(&[" M config/own"], "", &of), of[1..3]);
    // A committed file that is not there any more.
    assert_eq!(changed_of(&[" D config/gone.toml", " D .hidden.toml"], "", &of), ["config/gone.toml"]);
}

#[test]
fn an_author_is_what_stands_before_the_time() {
    let object = "tree 1\nparent 2\nauthor Ann B. <ann@acme.example> 1800000000 +0100\ncommitter Bob <b> 1 +0\n\nauthor X";
    assert_eq!(author(object), "Ann B. <ann@acme.example>");
    assert_eq!(author("tree 1\n\nauthor X <x> 1 +0"), "");
}

fn git(dir: &Path, arguments: &[&str]) {
    let own = ["-c", "user.name=Ann", "-c", "user.email=ann@acme.example", "-c", "commit.gpgsign=false"];
    let mut command = process::Command::new("git");
    command.args(own).args(arguments).current_dir(dir).env("GIT_CONFIG_NOSYSTEM", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

async fn found(dir: &Path) -> Found {
    origin(dir, &crate::directory::read(dir).unwrap()).await
}

async fn known(dir: &Path) -> Origin {
    match found(dir).await {
        Found::Commit(origin) => origin,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn git_itself_is_asked() {
    let root = tempfile::tempdir().unwrap();
    let (root, fleet) = (root.path(), root.path().join("prod"));
    write(root, "prod/fleet.toml", "[fleet]\n");
    write(root, "prod/config/base.toml", "a = 1\n");
    write(root, "other/notes.txt", "x\n");
    assert_eq!(found(&fleet).await, Found::NoRepository);

    git(root, &["init", "--quiet", "--initial-branch=main"]);
    assert_eq!(found(&fleet).await, Found::Unknown("the repository has no commit yet".to_owned()));
    git(root, &["add", "."]);
    git(root, &["commit", "--quiet", "--message=first"]);
    let origin = known(&fleet).await;
    assert_eq!((origin.branch(), origin.author()), (Some("main"), "Ann <ann@acme.example>"));
    assert!(origin.is_clean(), "{origin}");

    // What is not part of the fleet directory, and what is hidden in it, says nothing about it.
    write(root, "other/notes.txt", "y\n");
    write(root, "prod/.editor", "y\n");
    assert!(known(&fleet).await.is_clean());
    write(root, "prod/config/base.toml", "a = 2\n");
    assert_eq!(known(&fleet).await.changed(), 1);
    // Also a file that Git ignores is uploaded.
    write(root, ".gitignore", "own.toml\n");
    write(root, "prod/config/own.toml", "b = 1\n");
    assert_eq!(known(&fleet).await.changed(), 2);
    fs::remove_file(fleet.join("config/base.toml")).unwrap();
    assert_eq!(known(&fleet).await.changed(), 2);

    git(root, &["checkout", "--quiet", "--force", "--detach", "HEAD"]);
    let detached = known(&fleet).await;
    assert_eq!((detached.branch(), detached.commit()), (None, origin.commit()));
}

#[test]
fn a_refusal_says_what_to_do() {
    let refused = |said: &str| {
        let output = Output {
            status: process::ExitStatus::default(),
            stdout: Vec::new(),
            stderr: said.as_bytes().to_vec(),
        };
        refusal(Path::new("/srv/fleet"), &output)
    };
    assert_eq!(
        refused("fatal: detected dubious ownership in repository at '/srv/fleet'\nTo add an exception…"),
        "git does not read a repository that belongs to somebody else; if you trust it: git config --global --add \
         safe.directory /srv/fleet"
    );
    assert_eq!(refused("fatal: bad\u{1b}[2J\nmore"), "git says \"fatal: bad\\\\u001b[2J\"");
}
