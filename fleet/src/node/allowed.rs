//! `[allow]` of an agent's configuration. The agent goes by it before it acts; the coordinator, which the agent tells it
//! when it answers what lies on its host, finds by it what an agent would refuse before anything is rolled out.

use crate::{
    bundle::{Bundle, HomePath},
    call::{Call, Hooks, Reached},
    node::Failure,
    observed::RefusalReason,
    spec::ComposedNode,
};

/// What hooks and gates may reach, and which files may be written beside configuration and artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Programs, as absolute paths.
    pub commands: Vec<String>,
    /// HAProxy runtime sockets: paths, or `127.0.0.1:PORT`.
    pub sockets: Vec<String>,
    /// `host:port` of URLs; `host:*` allows every port.
    pub hosts: Vec<String>,
    /// Files below a home that may be written beside [`FILES_ALLOWED`]: exact, or a prefix that ends in `*`.
    pub files: Vec<String>,
    /// Who vouches for the certificates of other hosts.
    pub authorities: Authorities,
}

/// Who vouches for the certificates of other hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authorities {
    /// Nobody: a call names the certificate that it accepts.
    #[default]
    None,
    /// Those of a file on the host.
    Listed,
}

/// Directories below a home that may be written into: configuration and what is deployed. Not among them is everything
/// that runs before the server does, such as scripts and jars in `bin` and `lib`.
pub const FILES_ALLOWED: [&str; 6] = [
    "repository/conf/",
    "repository/resources/",
    "repository/deployment/",
    "repository/components/dropins/",
    "repository/components/lib/",
    "repository/components/patches/",
];

impl Default for Allowed {
    /// No command, no socket, and only this host.
    fn default() -> Self {
        let hosts = ["localhost:*", "127.0.0.1:*", "[::1]:*"];
        let hosts = hosts.map(str::to_owned).to_vec();
        Self {
            commands: Vec::new(),
            sockets: Vec::new(),
            hosts,
            files: Vec::new(),
            authorities: Authorities::None,
        }
    }
}

/// What this host itself is called in a URL.
const THIS_HOST: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Allowed {
    /// Everything of a node that its agent would refuse: a file, hooks, gates. One sentence each.
    pub fn refusals(&self, node: &ComposedNode) -> Vec<String> {
        let files = self.check_files(&node.bundle).err().map(|failure| failure.detail);
        let hooks = node.bundle.hooks.named().filter_map(|(point, hook)| {
            let failure = self.check_call(&hook.call).err()?;
            Some(format!("hook {point}: {}", failure.detail))
        });
        let gates = node.gates.iter().filter_map(|gate| {
            let failure = self.check_call(&gate.call).err()?;
            Some(format!("gate {}: {}", gate.name, failure.detail))
        });
        files.into_iter().chain(hooks).chain(gates).collect()
    }

    /// # Errors
    /// A file that the agent's own configuration does not let a fleet write.
    pub fn check_files(&self, bundle: &Bundle) -> Result<(), Failure> {
        let may = |path: &HomePath, is_launch: bool| {
            is_launch || *path == bundle.service.config_path || self.may_write(path.as_str())
        };
        match bundle.files.iter().find(|(path, file)| !may(path, file.launch)) {
            None => Ok(()),
            Some((path, _)) => Err(Failure {
                reason: RefusalReason::TargetUnsafe,
                detail: format!(
                    "{path} is neither configuration nor something that is deployed; if a fleet is to write it, list it \
                     under `files` in [allow] of the agent's configuration"
                ),
            }),
        }
    }

    fn may_write(&self, path: &str) -> bool {
        let listed = self.files.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == pattern,
        });
        listed || FILES_ALLOWED.iter().any(|directory| path.starts_with(directory))
    }

    /// # Errors
    /// A hook that reaches what is not allowed.
    pub fn check_hooks(&self, hooks: &Hooks) -> Result<(), Failure> {
        hooks.named().try_for_each(|(point, hook)| {
            self.check_call(&hook.call)
                .map_err(|failure| Failure { detail: format!("hook {point}: {}", failure.detail), ..failure })
        })
    }

    /// # Errors
    /// What it reaches is not allowed.
    pub fn check_call(&self, call: &Call) -> Result<(), Failure> {
        let refuse = |detail: String| Err(Failure { reason: RefusalReason::CommandNotAllowed, detail });
        let unlisted = |what: &str, list: &str| {
            refuse(format!("{what} is not among `{list}` in [allow] of the agent's configuration"))
        };
        match call {
            Call::Command(call) if !self.commands.contains(&call.program) => {
                unlisted(&call.program, "commands")
            }
            Call::Haproxy(call) if !self.sockets.contains(&call.socket) => unlisted(&call.socket, "sockets"),
            Call::Command(_) | Call::Haproxy(_) => Ok(()),
            Call::Http(_) | Call::Token(_) | Call::Prometheus(_) => {
                for reached in call.reached() {
                    let address = authority(reached.url);
                    if !self.reaches(&address) {
                        return unlisted(&address, "hosts");
                    }
                    if !self.vouches(&reached, &address) {
                        return refuse(format!(
                            "nobody vouches for the certificate of {address}: name it by `certificate_sha256`, or its \
                             authority by `authorities` in [allow] of the agent's configuration"
                        ));
                    }
                }
                Ok(())
            }
        }
    }

    fn reaches(&self, address: &str) -> bool {
        self.hosts.iter().any(|allowed| {
            let allowed = allowed.to_ascii_lowercase();
            match allowed.strip_suffix('*') {
                // The port must be one: `localhost:x@elsewhere` begins like this host and is not.
                Some(host) => address.rsplit_once(':').is_some_and(|(of, port)| {
                    host.strip_suffix(':') == Some(of) && port.parse::<u16>().is_ok()
                }),
                None => allowed == address,
            }
        })
    }

    /// Whether the certificate of an address that is allowed can be judged. The one of this host is pinned.
    fn vouches(&self, reached: &Reached<'_>, address: &str) -> bool {
        let is_plain = !reached.url.to_ascii_lowercase().starts_with("https:");
        let is_here = address.rsplit_once(':').is_some_and(|(host, _)| THIS_HOST.contains(&host));
        is_plain || is_here || reached.certificate.is_some() || self.authorities == Authorities::Listed
    }
}

/// `host:port` of a URL, in lower case, with the port that its scheme implies. What stands before an `@` is kept, so
/// that it is never taken for a host that is allowed.
fn authority(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let address = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest).to_ascii_lowercase();
    let after_host = address.rsplit_once(']').map_or(address.as_str(), |(_, after)| after);
    if after_host.contains(':') {
        return address;
    }
    let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    format!("{address}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::HttpCall, ids::Digest};

    #[test]
    fn only_configuration_and_artifacts_are_written_unless_the_host_lists_more() {
        let limits = Allowed::default();
        for good in [
            "repository/conf/deployment.toml",
            "repository/resources/conf/templates/a.j2",
            "repository/components/lib/mysql.jar",
            "repository/deployment/server/webapps/a.war",
        ] {
            assert!(limits.may_write(good), "{good}");
        }
        for bad in [
            "bin/wso2server.sh",
            "lib/a.jar",
            "repository/components/plugins/a.jar",
            "repository/confx",
            "wso2/lib/a.jar",
        ] {
            assert!(!limits.may_write(bad), "{bad}");
        }
        let limits =
            Allowed { files: vec!["bin/wso2server.sh".into(), "lib/*".into()], ..Allowed::default() };
        assert!(limits.may_write("bin/wso2server.sh") && limits.may_write("lib/a.jar"));
        assert!(!limits.may_write("bin/wso2server.sh.bak"));
    }

    #[test]
    fn a_call_reaches_only_what_the_host_lists() {
        let limits = Allowed {
            commands: vec!["/usr/local/bin/drain".into()],
            sockets: vec!["/run/haproxy.sock".into()],
            hosts: vec!["LB.acme.internal:8080".into(), "[::1]:*".into(), "localhost:*".into()],
            ..Allowed::default()
        };
        for good in [
            "http://lb.acme.internal:8080/api",
            "https://localhost/x",
            "http://LOCALHOST:1?x",
            "https://[::1]:9443/",
        ] {
            assert_eq!(limits.check_call(&http(good)), Ok(()), "{good}");
        }
        for bad in [
            "http://lb.acme.internal/api",
            "http://lb.acme.internal:80801/",
            "http://localhost:1@evil.example/",
            "http://localhost.evil.example:1/",
            "http://evil.example#@localhost:1/",
            "http://evil.example\\@localhost:1/",
            "http://evil.example/localhost:1",
        ] {
            let refusal = limits.check_call(&http(bad)).unwrap_err();
            assert_eq!(refusal.reason, RefusalReason::CommandNotAllowed, "{bad}");
            assert!(refusal.detail.contains("`hosts` in [allow]"), "{}", refusal.detail);
        }
        let command = |program: &str| {
            Call::Command(crate::call::CommandCall { program: program.into(), args: Vec::new() })
        };
        assert_eq!(limits.check_call(&command("/usr/local/bin/drain")), Ok(()));
        assert!(limits.check_call(&command("/usr/local/bin/drain2")).is_err());
        assert!(Allowed::default().check_call(&command("/usr/local/bin/drain")).is_err());
    }

    #[test]
    fn the_certificate_of_another_host_must_be_named_or_vouched_for() {
        let hosts = vec!["localhost:*".to_owned(), "lb.acme.internal:443".to_owned()];
        let strict = Allowed { hosts, ..Allowed::default() };
        let other = "https://lb.acme.internal/api";
        let refusal = strict.check_call(&http(other)).unwrap_err();
        assert!(refusal.detail.contains("certificate of lb.acme.internal:443"), "{}", refusal.detail);
        assert_eq!(strict.check_call(&http("https://localhost/x")), Ok(()));
        let listed = Allowed { authorities: Authorities::Listed, ..strict.clone() };
        assert_eq!(listed.check_call(&http(other)), Ok(()));
        let Call::Http(call) = http(other) else { panic!("another kind of call") };
        let named = Call::Http(HttpCall { certificate: Some(Digest::of(b"c")), ..call });
        assert_eq!(strict.check_call(&named), Ok(()));
    }

    fn http(url: &str) -> Call {
        Call::Http(HttpCall {
            method: crate::call::Method::Get,
            url: url.to_owned(),
            status: 200,
            contains: None,
            body: None,
            authorization: None,
            certificate: None,
        })
    }
}
