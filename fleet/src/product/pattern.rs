//! Patterns of paths in file rules: `*` and `?` within a part, `**` for any number of parts. Matched directly, since
//! compiling a regular expression per rule and file took most of the time of composing a fleet.

/// Why a text is no pattern of paths below home; `None` if it is one.
pub(super) fn problem(pattern: &str) -> Option<&'static str> {
    if pattern.is_empty() {
        return Some("it is empty");
    }
    if pattern.starts_with('/') || pattern.contains(['\\', ':']) {
        return Some("it is absolute or holds a backslash or colon");
    }
    for part in pattern.split('/') {
        if matches!(part, "" | "." | "..") {
            return Some("it holds an empty part, '.' or '..'");
        }
        if part.contains("**") && part != "**" {
            return Some("** must be a part of its own");
        }
    }
    None
}

pub(super) fn matches(pattern: &str, path: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let path: Vec<&str> = path.split('/').collect();
    wild(&pattern, &path, |part| *part == "**", |part, name| part_matches(part, name))
}

fn part_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    wild(&pattern, &name, |c| *c == '*', |c, other| *c == '?' || c == other)
}

/// Matching with one kind of "any number of" item, going back to the last such item only: linear in practice, never
/// worse than quadratic.
fn wild<P, T>(pattern: &[P], text: &[T], is_any: impl Fn(&P) -> bool, same: impl Fn(&P, &T) -> bool) -> bool {
    let (mut at, mut seen) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(item) if is_any(item) => {
                retry = Some((at, seen));
                at += 1;
            }
            Some(item) if same(item, &text[seen]) => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                at = star + 1;
                seen = from + 1;
            }
        }
    }
    pattern[at..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_part_and_double_stars_do_not() {
        for (pattern, path, expected) in [
            ("**", "a/b/c", true),
            ("**/*.jks", "a.jks", true),
            ("**/*.jks", "x/y/a.jks", true),
            ("bin/*.sh", "bin/a.sh", true),
            ("bin/*.sh", "bin/x/a.sh", false),
            ("repository/**", "repository/a/b", true),
            ("repository/**/b", "repository/b", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("password-*", "password-tmp", true),
            ("password-*", "conf/password-tmp", false),
            ("*a*b*", "xxaxxbxx", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_never_leaves_home() {
        for bad in ["", "/etc/*", "../x", "a//b", "a**", "C:/x"] {
            assert!(problem(bad).is_some(), "{bad}");
        }
        assert!(problem("**/*.p12").is_none());
    }
}
