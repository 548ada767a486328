//! The lint on real files: WSO2's own samples, each with the pack of its product, give no false error.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the test brings the input that the crate must not read itself, and says what it skips"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use fleet::{
    finding::{Finding, Severity},
    lint::{PackFacts, Subject, with_pack},
};

/// The folder of WSO2's data beside the project, if it is there.
fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wso2");
    let shared = shared.join("packs").is_dir().then_some(shared);
    if shared.is_none() {
        println!("skipped: no packs at ../shared/wso2");
    }
    shared
}

fn pack(home: &Path) -> PackFacts {
    let mut files = Vec::new();
    let mut open = vec![home.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(home).unwrap().to_str().unwrap().replace('\\', "/");
                files.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    PackFacts::new(carbon::Pack::load(files.into_iter()).unwrap())
}

/// Samples that really are broken: `<on-prem-key>` printed into XML, and a list given as one text, on which the real
/// mapper of 4.5 was recorded to fail with the same words.
const TRUE_ERRORS: [&str; 3] = [
    "docker-apim@4.2.x__apim-with-analytics__apim",
    "product-apim@v4.2.0__AM__toml_config__case1",
    "product-apim@v4.2.0__tests-config__AM__individualConfigurations__scenario1",
];

/// Which pack a sample was written for: by its product and minor version.
fn pack_of(sample: &str) -> Option<&'static str> {
    let (repository, rest) = sample.split_once('@')?;
    let version = rest.trim_start_matches('v');
    let is_apim = repository.contains("apim") && !rest.contains("is-as-km__is") && !rest.contains("is-km");
    let table = [
        (true, "4.2.", "apim-4.2.0"),
        (true, "4.5.", "apim-4.5.0"),
        (false, "6.0.", "is-6.0.0"),
        (false, "7.2.", "is-7.2.0"),
    ];
    let found = table.iter().find(|(apim, minor, _)| *apim == is_apim && version.starts_with(minor))?;
    let is_product = is_apim || repository.ends_with("-is");
    is_product.then_some(found.2)
}

fn report(name: &str, findings: &[Finding], tally: &mut BTreeMap<&'static str, usize>) {
    for finding in findings {
        *tally.entry(finding.code).or_default() += 1;
        if std::env::var_os("LINT_SHOW").is_some() {
            println!("{name} {finding}");
        }
    }
}

#[test]
fn official_samples_give_no_false_error() {
    let Some(shared) = shared() else { return };
    let mut tally = BTreeMap::new();
    let mut errors = Vec::new();
    let mut count = 0;
    for product in ["apim-4.2.0", "apim-4.5.0", "is-6.0.0", "is-7.2.0"] {
        let home = shared.join("packs").join(product);
        let facts = pack(&home);
        let refused = refused(&shared, product);
        let own = fs::read_to_string(home.join("repository/conf/deployment.toml")).unwrap();
        let mut texts = vec![("default".to_owned(), own)];
        for entry in fs::read_dir(shared.join("samples")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if pack_of(&name) == Some(product) {
                texts.push((
                    name.trim_end_matches(".toml").to_owned(),
                    fs::read_to_string(shared.join("samples").join(&name)).unwrap(),
                ));
            }
        }
        for (name, text) in texts {
            count += 1;
            let findings = with_pack(&Subject::file(&name, &text), &facts);
            report(&name, &findings, &mut tally);
            let mut false_errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
            if !refused.contains(&name) && !TRUE_ERRORS.contains(&name.as_str()) {
                errors.extend(false_errors.next().map(|finding| format!("{product} {name}: {finding}")));
            }
        }
    }
    println!("{count} files, findings by code: {tally:?}");
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Samples that the real mapper refuses with this pack.
fn refused(shared: &Path, product: &str) -> Vec<String> {
    let results = fs::read_to_string(shared.join("golden").join(product).join("results.tsv")).unwrap();
    let refused =
        results.lines().filter_map(|line| line.split_once('\t')).filter(|(_, end)| end.starts_with("error"));
    refused.map(|(sample, _)| sample.trim_end_matches(".toml").to_owned()).collect()
}

/// What strangers' files taught, if it is at hand: `case` is a folder beside WSO2's data.
fn case(path: &str) -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases").join(path);
    let text = fs::read_to_string(&file).ok();
    if text.is_none() {
        println!("skipped: no {}", file.display());
    }
    text
}

#[test]
fn a_strangers_table_after_its_child_is_refused_everywhere() {
    let (Some(shared), Some(text)) = (shared(), case("01-parent-table-after-child/deployment.toml")) else {
        return;
    };
    for name in ["is-6.0.0", "is-7.2.0", "apim-4.2.0", "apim-4.5.0"] {
        let facts = pack(&shared.join("packs").join(name));
        let refused = carbon::render(&facts.pack, &text, &carbon::Inputs::default()).unwrap_err();
        assert_eq!(refused.exception(), "StackOverflowError", "{name}");
        let findings = with_pack(&Subject::file("deployment.toml", &text), &facts);
        assert_eq!((findings[0].code, findings[0].place.as_ref().unwrap().line), ("CV501", 21), "{name}");
    }
    assert!(fleet::spec::canonical::flatten(&text).is_err(), "and so it is an edit of anything");
    assert!(fleet::preflight::needs::refused(&text).is_some());
}
