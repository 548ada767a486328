//! The bundle on the wire and as content: what the coordinator stores under its digest and the agent fetches.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    balancer,
    bundle::{
        BUNDLE_FILES_MAX, BUNDLE_SIZE_MAX, BodyRule, Bundle, DriftPolicy, FILE_SIZE_MAX, FileEntry, HomePath,
        Origin, OwnerIds, Port, Probe, ProbeKind, ProbeRole, RestartClass, RestartPolicy, ServiceSettings,
        Standing, Thresholds,
    },
    drift::keys::{KeyPattern, KeyRule, KeyRules, RULES_MAX},
    ids::{Digest, Generation},
    time::Timestamp,
};
use prost::Message as _;

use crate::{
    convert::{
        ConvertError,
        call::{hooks_from_wire, hooks_to_wire},
        invalid,
        key_manager::{key_managers_from_wire, key_managers_to_wire},
        required,
    },
    wire::bundle as wire,
};

/// An encoded bundle is at most this large, in bytes: 2,000 files with long paths stay far below.
pub const ENCODED_SIZE_MAX: usize = 4 * 1024 * 1024;

/// The bytes that stand for a bundle in stores, journals and on the content call. Equal bundles give equal bytes.
pub fn encode_bundle(bundle: &Bundle) -> Vec<u8> {
    wire::Bundle::from(bundle).encode_to_vec()
}

/// # Errors
/// Bytes that are no bundle, or one that breaks a bound of `fleet::bundle`.
pub fn decode_bundle(bytes: &[u8]) -> Result<Bundle, ConvertError> {
    if ENCODED_SIZE_MAX < bytes.len() {
        return Err(invalid(
            "Bundle",
            "encoding",
            format!("{} bytes, more than {ENCODED_SIZE_MAX}", bytes.len()),
        ));
    }
    let bundle =
        wire::Bundle::decode(bytes).map_err(|source| ConvertError::Encoding { message: "Bundle", source })?;
    Bundle::try_from(bundle)
}

pub(crate) fn digest(
    bytes: &[u8],
    message: &'static str,
    field: &'static str,
) -> Result<Digest, ConvertError> {
    Digest::from_slice(bytes).ok_or_else(|| invalid(message, field, format!("{} bytes, not 32", bytes.len())))
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn home_path(text: &str, message: &'static str, field: &'static str) -> Result<HomePath, ConvertError> {
    HomePath::parse(text).map_err(|error| invalid(message, field, error.to_string()))
}

fn port_number(number: u32, message: &'static str) -> Result<u16, ConvertError> {
    u16::try_from(number)
        .ok()
        .filter(|&port| port != 0)
        .ok_or_else(|| invalid(message, "port", format!("{number} is not 1 to 65535")))
}

impl From<&Bundle> for wire::Bundle {
    fn from(bundle: &Bundle) -> Self {
        let files = bundle.files.iter().map(|(path, file)| file_to_wire(path, file)).collect();
        let hooks = hooks_to_wire(&bundle.hooks);
        let origin = bundle.origin.as_ref().map(Into::into);
        let drift_keys = bundle.drift_keys.iter().map(rule_to_wire).collect();
        let key_managers = key_managers_to_wire(&bundle.key_managers);
        let service = Some(wire::Service::from(&bundle.service));
        let unnamed_editors = bundle.unnamed_editors;
        let balancer = bundle.balancer.map(|kind| kind.as_str().to_owned());
        Self { files, service, hooks, origin, drift_keys, key_managers, unnamed_editors, balancer }
    }
}

impl TryFrom<wire::Bundle> for Bundle {
    type Error = ConvertError;

    fn try_from(bundle: wire::Bundle) -> Result<Self, ConvertError> {
        if BUNDLE_FILES_MAX < bundle.files.len() {
            let why = format!("{} of them, more than {BUNDLE_FILES_MAX}", bundle.files.len());
            return Err(invalid("Bundle", "files", why));
        }
        let mut files = BTreeMap::new();
        for file in &bundle.files {
            let (path, entry) = file_from_wire(file)?;
            if files.insert(path, entry).is_some() {
                return Err(invalid("Bundle", "files", format!("{:?} stands in it twice", file.path)));
            }
        }
        if RULES_MAX < bundle.drift_keys.len() {
            let why = format!("{} of them, more than {RULES_MAX}", bundle.drift_keys.len());
            return Err(invalid("Bundle", "drift_keys", why));
        }
        let drift_keys = bundle.drift_keys.iter().map(rule_from_wire).collect::<Result<_, _>>()?;
        let drift_keys = KeyRules::new(drift_keys);
        let service = ServiceSettings::try_from(required(bundle.service, "Bundle", "service")?)?;
        let origin = bundle.origin.map(Origin::try_from).transpose()?;
        let hooks = hooks_from_wire(bundle.hooks)?;
        let key_managers = key_managers_from_wire(bundle.key_managers)?;
        let kind = |word: String| {
            balancer::Kind::parse(&word).ok_or_else(|| {
                invalid("Bundle", "balancer", format!("{word:?} is no kind of balancer known here"))
            })
        };
        let balancer = bundle.balancer.map(kind).transpose()?;
        let unnamed_editors = bundle.unnamed_editors;
        let bundle =
            Self { files, service, hooks, origin, drift_keys, unnamed_editors, key_managers, balancer };
        if BUNDLE_SIZE_MAX < bundle.size() {
            let why = format!("{} bytes together, more than {BUNDLE_SIZE_MAX}", bundle.size());
            return Err(invalid("Bundle", "files", why));
        }
        Ok(bundle)
    }
}

impl From<&Origin> for wire::Origin {
    fn from(origin: &Origin) -> Self {
        let standing = origin.standing.iter().map(|(path, standing)| wire::Standing {
            path: path.as_str().to_owned(),
            mode: standing.mode,
            uid: standing.owner.map(|owner| owner.uid),
            gid: standing.owner.map(|owner| owner.gid),
        });
        Self {
            taken_ms: origin.taken.0,
            before: origin.before.0,
            standing: standing.collect(),
            absent: origin.absent.iter().map(|path| path.as_str().to_owned()).collect(),
        }
    }
}

impl TryFrom<wire::Origin> for Origin {
    type Error = ConvertError;

    fn try_from(origin: wire::Origin) -> Result<Self, ConvertError> {
        if BUNDLE_FILES_MAX < origin.standing.len().max(origin.absent.len()) {
            return Err(invalid("Origin", "files", format!("more than {BUNDLE_FILES_MAX}")));
        }
        let standing = |file: &wire::Standing| {
            let owner = file.uid.zip(file.gid).map(|(uid, gid)| OwnerIds { uid, gid });
            Ok((home_path(&file.path, "Standing", "path")?, Standing { mode: file.mode, owner }))
        };
        let absent = |path: &String| home_path(path, "Origin", "absent");
        Ok(Self {
            taken: Timestamp(origin.taken_ms),
            before: Generation(origin.before),
            standing: origin.standing.iter().map(standing).collect::<Result<_, ConvertError>>()?,
            absent: origin.absent.iter().map(absent).collect::<Result<_, _>>()?,
        })
    }
}

pub(crate) fn policy_to_wire(policy: DriftPolicy) -> wire::DriftPolicy {
    match policy {
        DriftPolicy::Enforce => wire::DriftPolicy::Enforce,
        DriftPolicy::Report => wire::DriftPolicy::Report,
        DriftPolicy::Ignore => wire::DriftPolicy::Ignore,
    }
}

pub(crate) fn policy_from_wire(
    policy: wire::DriftPolicy,
    message: &'static str,
    field: &'static str,
) -> Result<DriftPolicy, ConvertError> {
    match policy {
        wire::DriftPolicy::Enforce => Ok(DriftPolicy::Enforce),
        wire::DriftPolicy::Report => Ok(DriftPolicy::Report),
        wire::DriftPolicy::Ignore => Ok(DriftPolicy::Ignore),
        wire::DriftPolicy::Unspecified => Err(invalid(message, field, "an unknown policy")),
    }
}

fn rule_to_wire(rule: &KeyRule) -> wire::KeyRule {
    wire::KeyRule { pattern: rule.pattern.to_string(), policy: policy_to_wire(rule.policy).into() }
}

fn rule_from_wire(rule: &wire::KeyRule) -> Result<KeyRule, ConvertError> {
    let pattern = KeyPattern::parse(&rule.pattern);
    let pattern = pattern.map_err(|error| invalid("KeyRule", "pattern", error.to_string()))?;
    Ok(KeyRule { pattern, policy: policy_from_wire(rule.policy(), "KeyRule", "policy")? })
}

fn file_to_wire(path: &HomePath, file: &FileEntry) -> wire::File {
    let drift = policy_to_wire(file.drift);
    let restart = match file.restart {
        RestartClass::None => wire::RestartClass::None,
        RestartClass::Hot => wire::RestartClass::Hot,
        RestartClass::Restart => wire::RestartClass::Restart,
        RestartClass::Phased => wire::RestartClass::Phased,
    };
    wire::File {
        path: path.as_str().to_owned(),
        digest: file.digest.0.to_vec(),
        size: file.size,
        mode: file.mode,
        drift: drift.into(),
        restart: restart.into(),
        meaning: file.meaning.0.to_vec(),
        secret: file.secret,
        launch: file.launch,
    }
}

fn file_from_wire(file: &wire::File) -> Result<(HomePath, FileEntry), ConvertError> {
    let path = home_path(&file.path, "File", "path")?;
    if FILE_SIZE_MAX < file.size {
        return Err(invalid("File", "size", format!("{} bytes, more than {FILE_SIZE_MAX}", file.size)));
    }
    // Set-uid, set-gid and sticky bits have no business below a server's home.
    if 0o777 < file.mode {
        return Err(invalid("File", "mode", format!("{:o} has more than permission bits", file.mode)));
    }
    let drift = policy_from_wire(file.drift(), "File", "drift")?;
    let restart = match file.restart() {
        wire::RestartClass::None => RestartClass::None,
        wire::RestartClass::Hot => RestartClass::Hot,
        wire::RestartClass::Restart => RestartClass::Restart,
        wire::RestartClass::Phased => RestartClass::Phased,
        wire::RestartClass::Unspecified => return Err(invalid("File", "restart", "an unknown class")),
    };
    let entry = FileEntry {
        digest: digest(&file.digest, "File", "digest")?,
        meaning: digest(&file.meaning, "File", "meaning")?,
        size: file.size,
        mode: file.mode,
        drift,
        restart,
        secret: file.secret,
        launch: file.launch,
    };
    Ok((path, entry))
}

impl From<&ServiceSettings> for wire::Service {
    fn from(service: &ServiceSettings) -> Self {
        Self {
            product: service.product.clone(),
            home: service.home.clone(),
            script_unix: service.script_unix.as_str().to_owned(),
            script_windows: service.script_windows.as_str().to_owned(),
            args: service.args.clone(),
            env: service.env.clone(),
            java_home: service.java_home.clone(),
            run_user: service.run_user.clone(),
            offset: service.offset.into(),
            ports: service.ports.iter().map(port_to_wire).collect(),
            probes: service.probes.iter().map(wire::Probe::from).collect(),
            start_deadline_ms: millis(service.start_deadline),
            stop_deadline_ms: millis(service.stop_deadline),
            thresholds: Some(wire::Thresholds {
                period_ms: millis(service.thresholds.period),
                failure: service.thresholds.failure,
                success: service.thresholds.success,
                grace_ms: millis(service.thresholds.grace),
            }),
            restart_policy: Some(wire::RestartPolicy {
                exits_max: service.restart_policy.exits_max,
                window_ms: millis(service.restart_policy.window),
                delay_ms: millis(service.restart_policy.delay),
                delay_max_ms: millis(service.restart_policy.delay_max),
            }),
            owned_keys: service.owned_keys.clone(),
            jdk_min: service.jdk.0,
            jdk_max: service.jdk.1.unwrap_or(0),
            ready_lines: service.ready_lines.clone(),
            config_path: service.config_path.as_str().to_owned(),
            unhealthy_restarts: service.unhealthy_restarts,
            check_databases: service.check_databases,
        }
    }
}

impl TryFrom<wire::Service> for ServiceSettings {
    type Error = ConvertError;

    fn try_from(service: wire::Service) -> Result<Self, ConvertError> {
        let thresholds = required(service.thresholds, "Service", "thresholds")?;
        let policy = required(service.restart_policy, "Service", "restart_policy")?;
        Ok(Self {
            product: service.product,
            home: service.home,
            script_unix: home_path(&service.script_unix, "Service", "script_unix")?,
            script_windows: home_path(&service.script_windows, "Service", "script_windows")?,
            config_path: home_path(&service.config_path, "Service", "config_path")?,
            args: service.args,
            env: service.env,
            java_home: service.java_home,
            run_user: service.run_user,
            offset: u16::try_from(service.offset)
                .map_err(|_| invalid("Service", "offset", "more than 65535"))?,
            ports: service.ports.into_iter().map(port_from_wire).collect::<Result<_, _>>()?,
            probes: service.probes.into_iter().map(Probe::try_from).collect::<Result<_, _>>()?,
            ready_lines: service.ready_lines,
            start_deadline: Duration::from_millis(service.start_deadline_ms),
            stop_deadline: Duration::from_millis(service.stop_deadline_ms),
            thresholds: Thresholds {
                period: Duration::from_millis(thresholds.period_ms),
                failure: thresholds.failure,
                success: thresholds.success,
                grace: Duration::from_millis(thresholds.grace_ms),
            },
            restart_policy: RestartPolicy {
                exits_max: policy.exits_max,
                window: Duration::from_millis(policy.window_ms),
                delay: Duration::from_millis(policy.delay_ms),
                delay_max: Duration::from_millis(policy.delay_max_ms),
            },
            unhealthy_restarts: service.unhealthy_restarts,
            check_databases: service.check_databases,
            owned_keys: service.owned_keys,
            jdk: (service.jdk_min, Some(service.jdk_max).filter(|&max| max != 0)),
        })
    }
}

fn port_to_wire(port: &Port) -> wire::Port {
    wire::Port { name: port.name.clone(), number: port.number.into(), required: port.required }
}

fn port_from_wire(port: wire::Port) -> Result<Port, ConvertError> {
    Ok(Port { number: port_number(port.number, "Port")?, name: port.name, required: port.required })
}

impl From<&Probe> for wire::Probe {
    fn from(probe: &Probe) -> Self {
        let role = match probe.role {
            ProbeRole::Liveness => wire::ProbeRole::Liveness,
            ProbeRole::Readiness => wire::ProbeRole::Readiness,
        };
        let kind = match &probe.kind {
            ProbeKind::Tcp(port) => wire::probe::Kind::TcpPort((*port).into()),
            ProbeKind::Http { tls, port, path, status, body } => wire::probe::Kind::Http(wire::HttpProbe {
                tls: *tls,
                port: (*port).into(),
                path: path.clone(),
                status: (*status).into(),
                body_rule: match body {
                    BodyRule::Any => String::new(),
                    BodyRule::Contains(text) => format!("contains:{text}"),
                    BodyRule::HealthApi => "health-api".to_owned(),
                },
            }),
        };
        Self {
            name: probe.name.clone(),
            role: role.into(),
            kind: Some(kind),
            timeout_ms: millis(probe.timeout),
        }
    }
}

impl TryFrom<wire::Probe> for Probe {
    type Error = ConvertError;

    fn try_from(probe: wire::Probe) -> Result<Self, ConvertError> {
        let role = match probe.role() {
            wire::ProbeRole::Liveness => ProbeRole::Liveness,
            wire::ProbeRole::Readiness => ProbeRole::Readiness,
            wire::ProbeRole::Unspecified => return Err(invalid("Probe", "role", "an unknown role")),
        };
        let kind = match required(probe.kind, "Probe", "kind")? {
            wire::probe::Kind::TcpPort(port) => ProbeKind::Tcp(port_number(port, "Probe")?),
            wire::probe::Kind::Http(http) => ProbeKind::Http {
                tls: http.tls,
                port: port_number(http.port, "HttpProbe")?,
                status: u16::try_from(http.status)
                    .map_err(|_| invalid("HttpProbe", "status", "more than 65535"))?,
                body: body_rule(&http.body_rule)?,
                path: http.path,
            },
        };
        Ok(Self { name: probe.name, role, kind, timeout: Duration::from_millis(probe.timeout_ms) })
    }
}

fn body_rule(text: &str) -> Result<BodyRule, ConvertError> {
    match text {
        "" => Ok(BodyRule::Any),
        "health-api" => Ok(BodyRule::HealthApi),
        _ => match text.strip_prefix("contains:") {
            Some(part) => Ok(BodyRule::Contains(part.to_owned())),
            None => Err(invalid("HttpProbe", "body_rule", "an unknown rule")),
        },
    }
}

#[cfg(test)]
mod tests {
    use fleet::{
        call::{Call, CommandCall, Credential, Hook, HookFailure, Hooks, HttpCall, Method, Tries},
        spec::Secret,
    };

    use super::*;

    fn example() -> Bundle {
        let path = |text| HomePath::parse(text).unwrap();
        let file = FileEntry {
            digest: Digest::of(b"x = 1\n"),
            meaning: Digest::of(b"x=1"),
            size: 6,
            mode: 0o640,
            drift: DriftPolicy::Enforce,
            restart: RestartClass::Phased,
            secret: true,
            launch: true,
        };
        let http =
            |body| ProbeKind::Http { tls: true, port: 9444, path: "/health".into(), status: 200, body };
        let probe = |name: &str, role, kind| Probe {
            name: name.into(),
            role,
            kind,
            timeout: Duration::from_millis(2500),
        };
        let service = ServiceSettings {
            product: "wso2is-7.2".into(),
            home: "/opt/is".into(),
            script_unix: path("bin/wso2server.sh"),
            script_windows: path("bin/wso2server.bat"),
            config_path: path("repository/conf/deployment.toml"),
            args: vec!["-Dx=y".into()],
            env: BTreeMap::from([("JVM_MEM_OPTS".into(), "-Xmx1g".into())]),
            java_home: Some("/opt/jdk".into()),
            run_user: None,
            offset: 1,
            ports: vec![Port { name: "https".into(), number: 9444, required: true }],
            probes: vec![
                probe("tcp", ProbeRole::Liveness, ProbeKind::Tcp(9444)),
                probe("any", ProbeRole::Readiness, http(BodyRule::Any)),
                probe("text", ProbeRole::Readiness, http(BodyRule::Contains("WSO2".into()))),
                probe("health", ProbeRole::Readiness, http(BodyRule::HealthApi)),
            ],
            ready_lines: vec!["WSO2 Carbon started in".into()],
            start_deadline: Duration::from_secs(300),
            stop_deadline: Duration::from_secs(120),
            thresholds: Thresholds {
                period: Duration::from_secs(10),
                failure: 3,
                success: 1,
                grace: Duration::from_secs(30),
            },
            restart_policy: RestartPolicy {
                exits_max: 3,
                window: Duration::from_secs(600),
                delay: Duration::from_secs(5),
                delay_max: Duration::from_secs(300),
            },
            unhealthy_restarts: false,
            check_databases: false,
            owned_keys: vec!["secrets.*".into()],
            jdk: (11, None),
        };
        Bundle {
            files: BTreeMap::from([(path("repository/conf/deployment.toml"), file)]),
            service,
            hooks: Hooks::default(),
            key_managers: fleet::key_manager::KeyManagers::default(),
            balancer: None,
            origin: None,
            drift_keys: KeyRules::default(),
            unnamed_editors: false,
        }
    }

    #[test]
    fn a_wish_for_logins_reads_back_and_makes_another_bundle() {
        let plain = example();
        let mut asks = plain.clone();
        asks.service.check_databases = true;
        assert_eq!(Bundle::try_from(wire::Bundle::from(&asks)).unwrap(), asks);
        assert_ne!(asks.digest(), plain.digest());
    }

    #[test]
    fn what_was_found_on_a_host_reads_back() {
        let path = |text| HomePath::parse(text).unwrap();
        let owner = Some(OwnerIds { uid: 0, gid: 7 });
        let origin = Origin {
            taken: Timestamp(5),
            before: Generation(3),
            standing: BTreeMap::from([
                (path("bin/a.sh"), Standing { mode: 0o4755, owner }),
                (path("b"), Standing { mode: 0o600, owner: None }),
            ]),
            absent: [path("c/d")].into(),
        };
        let bundle = Bundle { origin: Some(origin), ..example() };
        assert_eq!(decode_bundle(&encode_bundle(&bundle)).unwrap(), bundle);
        assert_ne!(bundle.digest(), example().digest());
    }

    #[test]
    fn a_bundle_reads_back_and_keeps_its_digest() {
        let rule = |text: &str, policy| KeyRule { pattern: KeyPattern::parse(text).unwrap(), policy };
        let rules = vec![rule("a.*.b", DriftPolicy::Ignore), rule("a", DriftPolicy::Report)];
        let ruled = Bundle { drift_keys: KeyRules::new(rules), unnamed_editors: true, ..example() };
        assert_ne!(ruled.digest(), example().digest());
        let front = Bundle { balancer: Some(balancer::Kind::Nginx), ..example() };
        assert_ne!(front.digest(), example().digest());
        for bundle in [example(), ruled, front] {
            let back = decode_bundle(&encode_bundle(&bundle)).unwrap();
            assert_eq!(back, bundle);
            assert_eq!(back.digest(), bundle.digest());
        }
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        let mut wire = wire::Bundle::from(&example());
        let rule = wire::KeyRule { pattern: "*".into(), policy: wire::DriftPolicy::Ignore.into() };
        wire.drift_keys = vec![rule.clone()];
        assert!(Bundle::try_from(wire.clone()).unwrap_err().to_string().contains("every key"));
        wire.drift_keys = vec![wire::KeyRule { pattern: "a".into(), ..rule.clone() }; RULES_MAX + 1];
        assert!(Bundle::try_from(wire.clone()).unwrap_err().to_string().contains("more than 200"));
        wire.drift_keys = vec![wire::KeyRule { pattern: "a".into(), policy: 9 }];
        assert!(Bundle::try_from(wire).unwrap_err().to_string().contains("unknown policy"));
    }

    /// Agents and stores of 0.1 know bundles by this digest. It rests on how settings and hooks are written by `Debug`.
    #[test]
    fn a_bundle_has_the_digest_that_earlier_versions_gave_it() {
        let hook = |call| Hook {
            call,
            tries: Tries { timeout: Duration::from_secs(3), most: 4, interval: Duration::from_millis(1500) },
            settle: Duration::from_secs(9),
            on_failure: HookFailure::Continue,
        };
        let http = HttpCall {
            method: Method::Patch,
            url: "https://lb:8443/api?state=drain".into(),
            status: 204,
            contains: None,
            body: Some("{}".into()),
            authorization: Some(Credential::Value(Secret::new("Bearer s3cret"))),
            certificate: None,
        };
        let command = CommandCall { program: "/bin/true".into(), args: vec!["a".into()] };
        let hooks = Hooks {
            before_stop: Some(hook(Call::Http(http))),
            after_ready: Some(hook(Call::Command(command))),
        };
        assert_eq!(
            example().digest().to_string(),
            "42ccb16d6f51835bf5ce3e7a02ad3523794478955a3e571637ee82249514362d"
        );
        let hooked = Bundle { hooks, ..example() };
        for hidden in ["-Xmx1g", "-Dx", "state=drain", "s3cret", "{}"] {
            assert!(!format!("{hooked:?}").contains(hidden), "{hidden}: {hooked:?}");
        }
        assert_eq!(
            hooked.digest().to_string(),
            "06cde0d7714d7cbba6b268629ae435a579525be009df6fb0a5f0a624cf739823"
        );
    }

    #[test]
    fn a_bundle_off_the_wire_is_never_trusted() {
        let good = wire::Bundle::from(&example());
        let check = |change: &dyn Fn(&mut wire::Bundle), expected: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let error = Bundle::try_from(bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&|b| b.files[0].path = "../../etc/passwd".into(), "leaves home");
        check(&|b| b.files[0].path = "/etc/passwd".into(), "absolute");
        check(&|b| b.files[0].digest.truncate(5), "5 bytes, not 32");
        check(&|b| b.files[0].mode = 0o4755, "4755");
        check(&|b| b.files[0].size = FILE_SIZE_MAX + 1, "more than");
        check(&|b| b.files[0].drift = 99, "unknown policy");
        check(&|b| b.files.push(b.files[0].clone()), "twice");
        check(&|b| b.service = None, "no service");
        check(&|b| b.service.as_mut().unwrap().ports[0].number = 70_000, "70000");
        check(&|b| b.files = vec![b.files[0].clone(); BUNDLE_FILES_MAX + 1], "2001");
        assert!(decode_bundle(b"\xff\xff\xff").is_err());
    }
}
