//! Members of an NGINX that are out of service. The free NGINX takes members from its configuration alone, so one that
//! is taken out is marked `down` in a second upstream, beside the generated file, and a map of the generated file sends
//! requests there (docs/decisions/0085-members-of-nginx-are-taken-out.md). The generated file itself does not change.

use std::collections::BTreeSet;

/// Directory of these second upstreams, below the home of the balancer.
pub const DIRECTORY: &str = "convoy.out";

/// How the line begins that names the members that are out.
const OUT: &str = "# out:";

/// An upstream of the generated file whose members can be taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// As in `upstream NAME {`.
    pub name: &'a str,
    /// Its lines, without the first and the last.
    body: Vec<&'a str>,
}

/// `server ADDRESS ...; # NAME`, as the generated file has it.
fn member(line: &str) -> Option<&str> {
    let line = line.trim();
    let (_, name) = line.strip_prefix("server ")?.split_once(';')?;
    let name = name.trim().strip_prefix('#')?.trim();
    (!name.is_empty()).then_some(name)
}

impl<'a> Upstream<'a> {
    /// Those of a configuration that reads the files of [`DIRECTORY`].
    pub fn all(config: &'a str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut lines = config.lines();
        while let Some(line) = lines.next() {
            let name = line.trim().strip_prefix("upstream ").and_then(|rest| rest.strip_suffix('{'));
            let Some(name) = name.map(str::trim) else { continue };
            let body: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "}").collect();
            let reads = [map_file(name), upstream_file(name)]
                .iter()
                .all(|file| config.contains(&format!("/{DIRECTORY}/{file}*;")));
            if reads {
                found.push(Self { name, body });
            }
        }
        found
    }

    /// Names of its members.
    pub fn members(&self) -> BTreeSet<&'a str> {
        self.body.iter().filter_map(|line| member(line)).collect()
    }

    /// The second upstream, in which `out` are down.
    pub fn without(&self, out: &BTreeSet<String>) -> String {
        let names = out.iter().map(|name| format!(" {name}")).collect::<String>();
        let mut text = format!(
            "# Members of {} that are out of service, written by convoy-agent.\n{OUT}{names}\nupstream {} {{\n",
            self.name,
            second(self.name)
        );
        for line in &self.body {
            let is_out = member(line).is_some_and(|name| out.contains(name));
            match line.split_once(';') {
                Some((server, rest)) if is_out => text.push_str(&format!("{server} down;{rest}\n")),
                Some(_) | None => text.push_str(&format!("{line}\n")),
            }
        }
        text.push_str("}\n");
        text
    }
}

/// The members that are out, of what [`Upstream::without`] made.
pub fn members_out(text: &str) -> BTreeSet<String> {
    let names = text.lines().find_map(|line| line.strip_prefix(OUT)).unwrap_or_default();
    names.split_whitespace().map(str::to_owned).collect()
}

/// No service has a point in its name.
fn second(upstream: &str) -> String {
    format!("{upstream}.out")
}

/// The file that holds the second upstream.
pub fn upstream_file(upstream: &str) -> String {
    format!("{upstream}.upstream")
}

/// The file that sends requests there. It must not be there without the other one.
pub fn map_file(upstream: &str) -> String {
    format!("{upstream}.map")
}

/// What stands in it.
pub fn map_text(upstream: &str) -> String {
    format!("\"\" {};\n", second(upstream))
}

/// The variable that holds the upstream in use. Names of services are DNS labels, so no two become one.
pub(super) fn variable(upstream: &str) -> String {
    format!("$convoy_pool_{}", upstream.replace('-', "_"))
}

/// What the generated file says beside an upstream.
pub(super) fn reading(upstream: &str, home: &str) -> [String; 6] {
    let dir = format!("{}/{DIRECTORY}", home.trim_end_matches('/'));
    [
        format!("# Members that hooks have taken out are down in {dir}."),
        format!("map \"\" {} {{", variable(upstream)),
        format!("    default {upstream};"),
        format!("    include {dir}/{}*;", map_file(upstream)),
        "}".to_owned(),
        format!("include {dir}/{}*;", upstream_file(upstream)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> String {
        let reading = reading("identity", "/etc/nginx/conf.d/").join("\n");
        format!(
            "  upstream identity {{\n    ip_hash;\n    server is1:9443 max_fails=3; # is-1\n    server [::1]:9445; # \
             is-2\n    keepalive 32;\n}}\n{reading}\n\nupstream typed {{\n    server other:80; # is-1\n}}\nserver {{\n    \
             listen 80;\n}}\n"
        )
    }

    #[test]
    fn a_member_that_is_out_is_down_in_a_second_upstream_and_nothing_else_changes() {
        let config = config();
        let [identity] = &Upstream::all(&config)[..] else { panic!("{:?}", Upstream::all(&config)) };
        assert_eq!(identity.members(), ["is-1", "is-2"].into());
        let out: BTreeSet<String> = ["is-1".to_owned()].into();
        let text = identity.without(&out);
        assert_eq!(
            text,
            "# Members of identity that are out of service, written by convoy-agent.\n# out: is-1\nupstream \
             identity.out {\n    ip_hash;\n    server is1:9443 max_fails=3 down; # is-1\n    server [::1]:9445; # \
             is-2\n    keepalive 32;\n}\n"
        );
        assert_eq!(members_out(&text), out);
        assert_eq!(members_out("upstream x {\n}\n"), BTreeSet::new());
        assert_eq!(map_text("identity"), "\"\" identity.out;\n");
    }

    #[test]
    fn an_upstream_that_reads_no_second_one_has_no_members_to_take_out() {
        let half = config().replace("identity.map*", "identity.map");
        assert_eq!(Upstream::all(&half), []);
        assert_eq!(Upstream::all(""), []);
    }
}
