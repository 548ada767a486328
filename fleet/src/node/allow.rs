//! What an agent's own configuration allows; no coordinator can widen it.

use crate::{
    bundle::{Bundle, HomePath, ServiceSettings},
    call::{Call, Hooks},
    node::Failure,
    observed::RefusalReason,
};

/// The host owner's allow-lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Homes that may be managed, as absolute paths.
    pub homes: Vec<String>,
    /// Start arguments that may be used: exact, or a prefix that ends in `*`.
    pub args: Vec<String>,
    /// What hooks and gates may reach, and which files may be written.
    pub allowed: Allowed,
}

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
        Self { commands: Vec::new(), sockets: Vec::new(), hosts, files: Vec::new() }
    }
}

/// Words of the start scripts that do something else than run a server in the foreground, in every dash form.
const COMMAND_WORDS: [&str; 9] =
    ["start", "stop", "restart", "debug", "version", "test", "dump", "optimize", "cleanregistry"];

/// Environment names that would make the script or the loader run something else.
const ENV_REFUSED: [&str; 8] =
    ["CARBON_HOME", "JAVACMD", "JAVA_HOME", "PATH", "ENV", "BASH_ENV", "IFS", "SHELLOPTS"];

/// Options of the JVM that only set sizes.
const SIZE_OPTIONS: [&str; 10] = [
    "-Xms",
    "-Xmx",
    "-Xmn",
    "-Xss",
    "-XX:MetaspaceSize=",
    "-XX:MaxMetaspaceSize=",
    "-XX:MaxDirectMemorySize=",
    "-XX:ReservedCodeCacheSize=",
    "-XX:InitialRAMPercentage=",
    "-XX:MaxRAMPercentage=",
];

impl Limits {
    /// # Errors
    /// A home, an argument or an environment name that is not allowed.
    pub fn check(&self, service: &ServiceSettings) -> Result<(), Failure> {
        let wanted = service.home.trim_end_matches('/');
        if !self.homes.iter().any(|home| home.trim_end_matches('/') == wanted) {
            return Err(Failure {
                reason: RefusalReason::HomeNotAllowed,
                detail: format!("{wanted} is not among `homes` of the agent's configuration"),
            });
        }
        for arg in &service.args {
            if let Some(why) = self.arg_refused(arg) {
                return Err(Failure {
                    reason: RefusalReason::CommandNotAllowed,
                    detail: format!("start argument {:?} {why}", name_of(arg)),
                });
            }
        }
        let refused = |name: &&String| ENV_REFUSED.contains(&name.as_str()) || name.starts_with("LD_");
        if let Some(name) = service.env.keys().find(refused) {
            return Err(Failure {
                reason: RefusalReason::CommandNotAllowed,
                detail: format!("environment variable {name} is the agent's own"),
            });
        }
        for (name, value) in service.env.iter().filter(|(name, _)| holds_options(name)) {
            let refused = value.split_whitespace().filter(|option| !is_size(option));
            let refused = refused.filter_map(|option| Some((option, self.arg_refused(option)?))).next();
            if let Some((option, why)) = refused {
                let detail = format!("environment variable {name}: {:?} {why}", name_of(option));
                return Err(Failure { reason: RefusalReason::CommandNotAllowed, detail });
            }
        }
        Ok(())
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
        let listed = self.allowed.files.iter().any(|pattern| match pattern.strip_suffix('*') {
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
        let refuse = |what: &str, list: &str| {
            let detail = format!("{what} is not among `{list}` in [allow] of the agent's configuration");
            Err(Failure { reason: RefusalReason::CommandNotAllowed, detail })
        };
        match call {
            Call::Command(call) if !self.allowed.commands.contains(&call.program) => {
                refuse(&call.program, "commands")
            }
            Call::Haproxy(call) if !self.allowed.sockets.contains(&call.socket) => {
                refuse(&call.socket, "sockets")
            }
            Call::Command(_) | Call::Haproxy(_) => Ok(()),
            Call::Http(_) | Call::Token(_) | Call::Prometheus(_) => {
                match call.urls().into_iter().map(authority).find(|address| !self.reaches(address)) {
                    Some(address) => refuse(&address, "hosts"),
                    None => Ok(()),
                }
            }
        }
    }

    fn reaches(&self, address: &str) -> bool {
        self.allowed.hosts.iter().any(|allowed| {
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

    fn arg_refused(&self, arg: &str) -> Option<&'static str> {
        let word = arg.trim_start_matches('-').to_ascii_lowercase();
        if arg.is_empty() || arg.contains(|c: char| c.is_whitespace() || c.is_control() || "*?[".contains(c))
        {
            // The scripts expand their arguments unquoted.
            return Some("holds white space or a wildcard, which the start script would split or expand");
        }
        if COMMAND_WORDS.contains(&word.as_str()) || word.ends_with("help") {
            return Some("is a command of the start script, not an option of a server");
        }
        if word.starts_with("dsetup") {
            return Some("recreates database tables");
        }
        if word.starts_with("dportoffset") {
            return Some(
                "would beat `[server] offset` without anybody seeing it; set the offset of the node",
            );
        }
        let allowed = self.args.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => arg.starts_with(prefix),
            None => arg == pattern,
        });
        (!allowed).then_some("is not among `args` of the agent's configuration")
    }
}

/// Whether the start script or the JVM takes the value of this variable for options: `JAVA_OPTS`, `JAVA_TOOL_OPTIONS`,
/// `JVM_MEM_OPTS`, `CATALINA_OPTS` and their like.
fn holds_options(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["OPTS", "OPTIONS", "ARGS"].iter().any(|end| name.ends_with(end))
}

fn is_size(option: &str) -> bool {
    SIZE_OPTIONS
        .iter()
        .filter_map(|prefix| option.strip_prefix(prefix))
        .any(|size| !size.is_empty() && size.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'))
}

/// The part of an argument before its value, which may be a secret.
fn name_of(arg: &str) -> &str {
    arg.split('=').next().unwrap_or(arg)
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

    #[test]
    fn dangerous_arguments_are_refused_even_if_listed() {
        let limits = Limits { args: vec!["*".into()], ..Limits::default() };
        for bad in [
            "stop",
            "--start",
            "-restart",
            "-Dsetup",
            "--cleanRegistry",
            "-DportOffset=1",
            "a b",
            "",
            "xhelp",
        ] {
            assert!(limits.arg_refused(bad).is_some(), "{bad}");
        }
        assert_eq!(limits.arg_refused("-Dprofile=gateway-worker"), None);
    }

    #[test]
    fn an_argument_must_be_listed() {
        let limits = Limits { args: vec!["-Dprofile=*".into(), "-Dx=1".into()], ..Limits::default() };
        assert_eq!(limits.arg_refused("-Dprofile=a"), None);
        assert_eq!(limits.arg_refused("-Dx=1"), None);
        assert!(limits.arg_refused("-Dx=2").is_some());
    }

    #[test]
    fn options_in_the_environment_are_judged_as_arguments_are() {
        let bundle = crate::node::tests::bundle("a = 1", "x");
        let limits = Limits { args: vec!["-Dx=*".into()], ..crate::node::tests::limits() };
        let refused = |name: &str, value: &str| {
            let mut service = bundle.service.clone();
            service.env.insert(name.to_owned(), value.to_owned());
            limits.check(&service).err().map(|failure| failure.detail)
        };
        for (name, value) in [
            ("JAVA_OPTS", "-Xmx2g -Dx=1"),
            ("JVM_MEM_OPTS", "-Xms256m -Xmx1024m -XX:MaxRAMPercentage=75.0"),
            ("DB_PASSWORD", "-javaagent:/tmp/a.jar"),
        ] {
            assert_eq!(refused(name, value), None, "{name}={value}");
        }
        for (name, value) in [
            ("JAVA_OPTS", "-Xmx1g -javaagent:/tmp/a.jar=s3cret"),
            ("JAVA_TOOL_OPTIONS", "-agentpath:/tmp/a.so"),
            ("JDK_JAVA_OPTIONS", "@/tmp/options"),
            ("_JAVA_OPTIONS", "-XX:OnOutOfMemoryError=/tmp/a"),
            ("CATALINA_OPTS", "-Dy=1"),
            ("JVM_MEM_OPTS", "-Xmx1g;id"),
        ] {
            let said = refused(name, value).unwrap_or_default();
            assert!(said.contains(name) && !said.contains("s3cret"), "{name}={value}: {said}");
        }
    }

    #[test]
    fn only_configuration_and_artifacts_are_written_unless_the_host_lists_more() {
        let limits = Limits::default();
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
        let allowed =
            Allowed { files: vec!["bin/wso2server.sh".into(), "lib/*".into()], ..Allowed::default() };
        let limits = Limits { allowed, ..Limits::default() };
        assert!(limits.may_write("bin/wso2server.sh") && limits.may_write("lib/a.jar"));
        assert!(!limits.may_write("bin/wso2server.sh.bak"));
    }

    #[test]
    fn a_call_reaches_only_what_the_host_lists() {
        let allowed = Allowed {
            commands: vec!["/usr/local/bin/drain".into()],
            sockets: vec!["/run/haproxy.sock".into()],
            hosts: vec!["LB.acme.internal:8080".into(), "[::1]:*".into(), "localhost:*".into()],
            files: Vec::new(),
        };
        let limits = Limits { allowed, ..Limits::default() };
        let http = |url: &str| {
            Call::Http(crate::call::HttpCall {
                method: crate::call::Method::Get,
                url: url.to_owned(),
                status: 200,
                contains: None,
                body: None,
                authorization: None,
                certificate: None,
            })
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
        assert!(Limits::default().check_call(&command("/usr/local/bin/drain")).is_err());
    }
}
