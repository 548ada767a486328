//! `cargo xtask book`: the handbook in `docs/` as a site, by mdbook, in `target/book/html`. The decision records are listed
//! by reading their directory; files outside of `docs/` that pages link to are brought along.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::cargo::{cargo, root, run, step, target};

const VERSION: &str = "0.5.4";
const DOCS: &str = "docs";
const RECORDS: &str = "docs/decisions";
/// The page below which the records are listed.
const ABOVE_RECORDS: &str = "(decisions.md)";

/// Builds the site.
///
/// # Errors
/// mdbook is missing and cannot be built, or it fails, or a link of the site leads nowhere.
pub fn build() -> Result<ExitCode> {
    let book = std::path::absolute(target().join("book"))?;
    let (source, site) = (book.join("source"), book.join("html"));
    for dir in [&source, &site] {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
    }
    stage(root(), &source)?;
    let mut build = Command::new(mdbook(&book.join("tools"))?);
    run("handbook", build.arg("build").arg(&source).arg("--dest-dir").arg(&site))?;
    let lost = lost_links(&site)?;
    if !lost.is_empty() {
        bail!("links of the site lead nowhere:\n  {}", lost.join("\n  "));
    }
    println!("\nThe handbook: {}", site.join("index.html").display());
    Ok(ExitCode::SUCCESS)
}

/// The program: the machine's, or one that is built here once.
fn mdbook(tools: &Path) -> Result<PathBuf> {
    let own = tools.join("bin/mdbook");
    let works = |program: &Path| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if works(Path::new("mdbook")) {
        return Ok("mdbook".into());
    }
    if !works(&own) {
        // Neither a web server nor a watch is needed.
        let mut install = cargo();
        install.args(["install", "mdbook", "--version", VERSION, "--locked", "--no-default-features"]);
        step("mdbook", install.args(["--features", "search", "--root"]).arg(tools))?;
    }
    Ok(own)
}

/// Copies `docs/` and what its pages link to, with links that lead to the copies.
fn stage(root: &Path, source: &Path) -> Result<()> {
    let mut open: Vec<PathBuf> = files(&root.join(DOCS))?;
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    while let Some(path) = open.pop() {
        let below = path.strip_prefix(root)?.to_owned();
        if !known.insert(below.clone()) {
            continue;
        }
        let to = source.join(place(&below));
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        if path.extension().is_none_or(|ending| ending != "md") {
            fs::copy(&path, &to)?;
            continue;
        }
        let mut text = fs::read_to_string(&path)?;
        if below == Path::new(DOCS).join("SUMMARY.md") {
            text = with_records(&text, &records(root)?);
        }
        let (text, linked) = relinked(&below, &text);
        fs::write(&to, text)?;
        open.extend(linked.into_iter().map(|path| root.join(path)).filter(|path| path.is_file()));
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

/// Lines of the table of contents for the records, in their order.
fn records(root: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in files(&root.join(RECORDS))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
        lines.push(format!("  - [{}](decisions/{name})", title.unwrap_or(&name)));
    }
    lines.sort();
    Ok(lines)
}

fn with_records(contents: &str, records: &[String]) -> String {
    let mut lines = Vec::new();
    for line in contents.lines() {
        lines.push(line.to_owned());
        if line.contains(ABOVE_RECORDS) {
            lines.extend_from_slice(records);
        }
    }
    lines.join("\n") + "\n"
}

/// Where a file of the project lies in the site's source: `docs/` is its root.
fn place(path: &Path) -> PathBuf {
    path.strip_prefix(DOCS).unwrap_or(path).to_owned()
}

/// A page whose links lead to the places of the site's source, and the files that it links to.
fn relinked(page: &Path, text: &str) -> (String, Vec<PathBuf>) {
    let mut linked = Vec::new();
    let mut parts = text.split("](");
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (target, rest) = part.split_once(')').unwrap_or((part, ""));
        made.push_str("](");
        let (path, anchor) =
            target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
        if path.is_empty() || path.contains("://") || path.contains(' ') {
            made.push_str(part);
            continue;
        }
        let to = normal(&page.parent().unwrap_or(Path::new("")).join(path));
        made.push_str(&relative(&place(page), &place(&to)));
        if let Some(anchor) = anchor {
            made.push('#');
            made.push_str(anchor);
        }
        made.push(')');
        made.push_str(rest);
        linked.push(to);
    }
    (made, linked)
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

/// The way from one page to another file.
fn relative(from: &Path, to: &Path) -> String {
    let up = from.components().count().saturating_sub(1);
    let path = to.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    "../".repeat(up) + &path
}

/// Links of the built pages to files that are not there.
fn lost_links(site: &Path) -> Result<Vec<String>> {
    let mut lost = Vec::new();
    let is_page = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "html");
    let mut pages: Vec<PathBuf> = files(site)?.into_iter().filter(is_page).collect();
    pages.sort();
    for page in pages {
        let text = fs::read_to_string(&page)?;
        // The frame has the same links on every page; what people wrote stands in `main`.
        let written = text.split_once("<main>").and_then(|(_, rest)| rest.split_once("</main>"));
        let written = written.map_or("", |(main, _)| main);
        for target in written.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !is_elsewhere && !page.parent().unwrap_or(site).join(path).exists() {
                lost.push(format!("{}: {target}", page.strip_prefix(site)?.display()));
            }
        }
    }
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_places_of_the_site() {
        let linked = |page: &str, text: &str| {
            let (text, files) = relinked(Path::new(page), text);
            let files: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
            format!("{text} <- {}", files.join(" "))
        };
        let said = [
            linked("docs/a.md", "[x](../ARCHITECTURE.md#map) and [y](b.md)"),
            linked("ARCHITECTURE.md", "[x](docs/a.md), [here](#map)"),
            linked("docs/decisions/1.md", "[x](../a.md) [y](../../examples/a.toml) [z](https://a.example/)"),
        ];
        let expected = [
            "[x](ARCHITECTURE.md#map) and [y](b.md) <- ARCHITECTURE.md docs/b.md",
            "[x](a.md), [here](#map) <- docs/a.md",
            "[x](../a.md) [y](../examples/a.toml) [z](https://a.example/) <- docs/a.md examples/a.toml",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn records_stand_below_their_page() {
        let contents = "- [Decisions](decisions.md)\n- [Other](other.md)\n";
        let made = with_records(contents, &["  - [1](decisions/1.md)".to_owned()]);
        assert_eq!(made, "- [Decisions](decisions.md)\n  - [1](decisions/1.md)\n- [Other](other.md)\n");
    }
}
