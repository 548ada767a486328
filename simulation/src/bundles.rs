//! The bundles that a simulated fleet is given, and what servers do with them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fleet::{
    bundle::{
        BodyRule, Bundle, DriftPolicy, FileEntry, HomePath, Probe, ProbeKind, ProbeRole, RestartClass,
        RestartPolicy, ServiceSettings, Thresholds,
    },
    call::Hooks,
    ids::Digest,
    rollout::Target,
};

/// What a server does that reads a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It becomes ready, and does what it is for.
    Good,
    /// It becomes ready, and fails every gate.
    Useless,
    /// It ends during its start.
    Exits,
    /// It never becomes ready.
    Hangs,
}

impl Nature {
    /// It becomes ready.
    pub fn starts(self) -> bool {
        matches!(self, Nature::Good | Nature::Useless)
    }
}

/// Where every server lives.
pub const HOME: &str = "/opt/wso2";
/// From launch to ready before a start has failed.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// All bundles made so far. The digest of a bundle stands for that of its encoding as well.
#[derive(Debug, Default)]
pub struct Library {
    /// Another deadline for starts.
    pub start_deadline: Option<Duration>,
    /// What every bundle asks for around a stop.
    pub hooks: Hooks,
    bundles: BTreeMap<Digest, (Arc<Bundle>, Nature, u64)>,
    /// What people had written on hosts, and what it means to a server. No coordinator has it.
    originals: BTreeMap<Digest, u64>,
}

impl Library {
    /// A new bundle of `version`, whose manifest says that it means `meaning`, while it truly means `truth`.
    pub fn add(&mut self, version: u64, (meaning, truth): (u64, u64), nature: Nature) -> Target {
        let text = |number: u64, what: &str| Digest::of(format!("{what} {number}").as_bytes());
        let path = |text: &str| HomePath::parse(text).expect("a fixed path below home");
        let file = FileEntry {
            digest: text(version, "bytes"),
            meaning: text(meaning, "meaning"),
            size: 100,
            mode: 0o640,
            drift: DriftPolicy::Enforce,
            restart: RestartClass::Restart,
            secret: false,
            launch: false,
        };
        let bundle = Arc::new(Bundle {
            files: BTreeMap::from([(path("repository/conf/deployment.toml"), file)]),
            service: ServiceSettings {
                start_deadline: self.start_deadline.unwrap_or(START_DEADLINE),
                ..settings(path("bin/wso2server.sh"), path("bin/wso2server.bat"))
            },
            hooks: self.hooks.clone(),
            origin: None,
            drift_keys: fleet::drift::keys::KeyRules::default(),
            unnamed_editors: false,
            key_managers: fleet::key_manager::KeyManagers::default(),
            balancer: None,
        });
        let digest = bundle.digest();
        self.bundles.insert(digest, (bundle, nature, truth));
        Target { bundle: digest, content: digest, size: 200 }
    }

    /// What a person had written.
    pub fn add_original(&mut self, digest: Digest, truth: u64) {
        self.originals.insert(digest, truth);
    }

    /// Whether a person had written that.
    pub fn is_original(&self, digest: &Digest) -> bool {
        self.originals.contains_key(digest)
    }

    /// The bundle of this digest.
    pub fn bundle(&self, digest: &Digest) -> Option<&Arc<Bundle>> {
        self.bundles.get(digest).map(|(bundle, _, _)| bundle)
    }

    /// What a server does that reads it.
    pub fn nature(&self, digest: &Digest) -> Nature {
        if self.is_original(digest) {
            return Nature::Good;
        }
        self.bundles.get(digest).map_or(Nature::Exits, |(_, nature, _)| *nature)
    }

    /// What a server reads from it; equal truths are the same to a server.
    pub fn truth(&self, digest: &Digest) -> u64 {
        let original = self.originals.get(digest).copied();
        original.or_else(|| self.bundles.get(digest).map(|(_, _, truth)| *truth)).unwrap_or(0)
    }
}

fn settings(script_unix: HomePath, script_windows: HomePath) -> ServiceSettings {
    let secs = Duration::from_secs;
    let probe = Probe {
        name: "https".to_owned(),
        role: ProbeRole::Readiness,
        kind: ProbeKind::Http {
            tls: true,
            port: 9443,
            path: "/health".to_owned(),
            status: 200,
            body: BodyRule::Any,
        },
        timeout: secs(2),
    };
    ServiceSettings {
        product: "wso2is-7.2".to_owned(),
        home: HOME.to_owned(),
        script_unix,
        script_windows,
        config_path: HomePath::parse("repository/conf/deployment.toml").expect("a fixed path below home"),
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 0,
        ports: Vec::new(),
        probes: vec![probe],
        ready_lines: Vec::new(),
        start_deadline: START_DEADLINE,
        stop_deadline: secs(10),
        thresholds: Thresholds { period: secs(10), failure: 2, success: 1, grace: secs(0) },
        restart_policy: RestartPolicy {
            exits_max: 3,
            window: secs(120),
            delay: secs(2),
            delay_max: secs(20),
        },
        unhealthy_restarts: false,
        check_databases: false,
        owned_keys: Vec::new(),
        jdk: (11, None),
    }
}
