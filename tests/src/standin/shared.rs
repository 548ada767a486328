//! What request handlers and the launch both see: the faults of the moment, and what this launch runs on.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::descriptor::Role;
use super::endpoints::{StateView, View};
use super::misbehaviour::Misbehaviour;

const GATEWAY_READY_AFTER: Duration = Duration::from_millis(200);

/// The part that request handlers see.
pub struct Shared {
    pub home: PathBuf,
    pub role: Role,
    pub product: String,
    pub https_base: u16,
    pub faults: Mutex<Misbehaviour>,
    pub running: Mutex<Running>,
}

/// What this launch runs on.
#[derive(Debug, Clone, Default)]
pub struct Running {
    pub launches: u64,
    pub launches_with_faults: u32,
    pub toml: String,
    pub toml_digest: String,
    pub offset: u16,
    pub health_check_enabled: bool,
    /// User and password of the administrator.
    pub admin: (String, String),
    /// A `$secret{}` is used, so the server must read the keystore password.
    pub needs_vault: bool,
    pub started: Option<Instant>,
}

impl Shared {
    /// The faults of this moment. A file that cannot be read at this moment changes nothing.
    pub fn faults(&self) -> Misbehaviour {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(read) = Misbehaviour::read(&self.home) {
            *faults = read;
        }
        faults.clone()
    }

    pub fn running(&self) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut Running)) {
        change(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn view(&self) -> View {
        let (faults, running) = (self.faults(), self.running());
        let up = running.started.map(|started| started.elapsed());
        let since = |span: Duration| up.is_some_and(|up| span <= up);
        let marker = faults.unhealthy_if_toml_contains.as_deref();
        View {
            role: self.role,
            product: self.product.clone(),
            https_port: self.https_base + running.offset,
            health_check_enabled: running.health_check_enabled,
            home: self.home.clone(),
            admin: running.admin,
            admin_api_away: faults.admin_api_away,
            unhealthy: faults.unhealthy
                || faults.unhealthy_after.is_some_and(|span| since(span.0))
                || marker.is_some_and(|text| running.toml.contains(text)),
            gateway_ready: since(faults.gateway_ready_after.map_or(GATEWAY_READY_AFTER, |span| span.0)),
            delay: faults.answer_delay.map_or(Duration::ZERO, |span| span.0),
            state: StateView {
                pid: std::process::id(),
                launches: running.launches,
                toml_digest: running.toml_digest,
                offset: running.offset,
                started: up.is_some(),
            },
        }
    }
}
