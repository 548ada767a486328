//! Transcripts of the engine, and a simulation that tries to break its promises.

mod hooks;
mod key_managers;
mod original;
mod reload;
mod sim;
mod transcript;
mod writers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    bundle::{
        Applied, Assignment, Bundle, DriftPolicy, FileEntry, HomePath, Origin, RestartClass, RestartPolicy,
        RunState, ServiceSettings, Thresholds,
    },
    call::Hooks,
    drift::keys::KeyRules,
    health::{Answer, ProbeResult},
    ids::{Digest, FleetEpoch, Generation, Revision},
    key_manager::KeyManagers,
    node::{Allowed, Limits, Placed},
    observed::ProcessIdentity,
    time::Timestamp,
};

pub(super) const EPOCH: FleetEpoch = FleetEpoch([7; 16]);
pub(super) const HOME: &str = "/opt/is";

pub(super) fn limits() -> Limits {
    Limits {
        homes: vec![HOME.into()],
        args: vec!["-Dprofile=*".into()],
        allowed: Allowed {
            commands: vec!["/drain".into(), "/enable".into()],
            sockets: vec!["/run/haproxy.sock".into()],
            files: vec!["log4j2.properties".into()],
            ..Allowed::default()
        },
    }
}

pub(super) fn path(text: &str) -> HomePath {
    HomePath::parse(text).expect("a path")
}

fn entry(text: &str, restart: RestartClass) -> FileEntry {
    FileEntry {
        digest: Digest::of(text.as_bytes()),
        meaning: Digest::of(text.as_bytes()),
        size: text.len() as u64,
        mode: 0o640,
        drift: DriftPolicy::Enforce,
        restart,
        secret: false,
        launch: false,
    }
}

/// A node whose deployment.toml is `config` and whose logging file is `logging`.
pub(super) fn bundle(config: &str, logging: &str) -> Arc<Bundle> {
    let secs = Duration::from_secs;
    let service = ServiceSettings {
        product: "wso2is-7.2".into(),
        home: HOME.into(),
        script_unix: path("bin/wso2server.sh"),
        script_windows: path("bin/wso2server.bat"),
        config_path: path("deployment.toml"),
        args: Vec::new(),
        env: BTreeMap::new(),
        java_home: None,
        run_user: None,
        offset: 0,
        ports: Vec::new(),
        probes: Vec::new(),
        ready_lines: vec!["started".into()],
        start_deadline: secs(300),
        stop_deadline: secs(120),
        thresholds: Thresholds { period: secs(10), failure: 3, success: 1, grace: secs(30) },
        restart_policy: RestartPolicy {
            exits_max: 3,
            window: secs(600),
            delay: secs(5),
            delay_max: secs(60),
        },
        unhealthy_restarts: false,
        check_databases: false,
        owned_keys: Vec::new(),
        jdk: (11, None),
    };
    let files = BTreeMap::from([
        (path("deployment.toml"), entry(config, RestartClass::Restart)),
        (path("log4j2.properties"), entry(logging, RestartClass::Hot)),
    ]);
    Arc::new(Bundle {
        files,
        service,
        hooks: Hooks::default(),
        origin: None,
        drift_keys: KeyRules::default(),
        unnamed_editors: false,
        key_managers: KeyManagers::default(),
        balancer: None,
    })
}

/// What a person had written, as an agent keeps it before it writes that generation.
pub(super) fn found(config: &str, before: Generation) -> Arc<Bundle> {
    let mut bundle = bundle(config, "x").as_ref().clone();
    let (taken, standing, absent) = (Timestamp(0), BTreeMap::new(), BTreeSet::new());
    bundle.origin = Some(Origin { taken, before, standing, absent });
    Arc::new(bundle)
}

/// The assignment of a bundle. The encoding's digest is made up: the engine only compares it.
pub(super) fn assignment(generation: u64, bundle: &Bundle, run: RunState) -> Assignment {
    let digest = bundle.digest();
    Assignment {
        applied: Applied { generation: Generation(generation), bundle: digest },
        content: content_of(bundle),
        content_size: 100,
        revision: Revision(1),
        run,
        why: "test".into(),
        trace: None,
    }
}

pub(super) fn content_of(bundle: &Bundle) -> Digest {
    Digest::of(&bundle.digest().0)
}

pub(super) fn placed(assignment: &Assignment) -> Placed {
    Placed { applied: assignment.applied, content: assignment.content }
}

pub(super) fn process(pid: u32, started: i64) -> ProcessIdentity {
    ProcessIdentity { pid, start_id: format!("s{pid}"), started: Timestamp(started) }
}

pub(super) fn round(answer: &Answer) -> Vec<ProbeResult> {
    vec![ProbeResult {
        name: "openid".into(),
        role: crate::bundle::ProbeRole::Readiness,
        answer: answer.clone(),
    }]
}
