//! One evaluation of anything: deployment.toml, default.json and a template, separated by lines of `====`. What the fuzz
//! target runs for as long as somebody lets it, and the tests for a while.

use carbon::known::KnownKeys;
use carbon::pack::RESOURCES;
use carbon::{Inputs, Pack, render};

/// Evaluates twice; panics if the outcomes differ. True if there was a pack to evaluate.
pub fn evaluate(input: &str) -> bool {
    let mut parts = input.splitn(3, "\n====\n");
    let toml = parts.next().unwrap_or_default();
    let defaults = parts.next().unwrap_or("{}");
    let template = parts.next().unwrap_or("{{ a }}");
    let files = [
        ("key-mappings.json", r#"{"old": "a.old", "rows:x": "rows:y"}"#),
        ("infer.json", r#"{"db.$1.type": {"x": {"db.$1.url": "$ref{db.$1.host}"}}}"#),
        ("default.json", defaults),
        ("unit-resolve.json", r#"{"time": {"a.timeout": "s"}}"#),
        ("validator.json", r#"{"a.kind": [{"regex": "x|"}]}"#),
        ("templates/out.j2", template),
    ];
    let files = files.map(|(path, text)| (format!("{RESOURCES}{path}"), text.as_bytes().to_vec()));
    let Ok(pack) = Pack::load(files.into_iter()) else { return false };
    let first = render(&pack, toml, &Inputs::default()).map(|rendered| rendered.files);
    let second = render(&pack, toml, &Inputs::default()).map(|rendered| rendered.files);
    assert_eq!(first, second);
    let _known = KnownKeys::of(&pack);
    true
}
