//! What is checked on the host right before a bundle is staged, beside the preflight that it has passed. Each refusal
//! has its own word, and changes nothing.

use std::path::Path;

use fleet::{bundle::Bundle, node::Failure, observed::RefusalReason, preflight::needs};

use super::place::{Home, Owner, PlaceError};
use crate::cache::Cache;

/// What the agent's configuration supplies where a bundle is silent.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// JAVA_HOME.
    pub java_home: Option<String>,
    /// Run user.
    pub run_user: Option<String>,
}

impl Defaults {
    /// JAVA_HOME for this bundle.
    pub fn java_home<'a>(&'a self, bundle: &'a Bundle) -> Option<&'a str> {
        bundle.service.java_home.as_deref().or(self.java_home.as_deref())
    }

    /// The run user for this bundle; `None` means the agent's own.
    ///
    /// # Errors
    /// A user that the host does not know, or one that only root could become.
    pub fn owner(&self, bundle: &Bundle) -> Result<Option<Owner>, Failure> {
        let Some(name) = bundle.service.run_user.as_deref().or(self.run_user.as_deref()) else {
            return Ok(None);
        };
        let refused = |detail| Err(Failure { reason: RefusalReason::WrongOwner, detail });
        // Where users have no numbers (Windows) the server runs as the agent does.
        let Ok(own) = crate::platform::user(None) else { return Ok(None) };
        let user = match crate::platform::user(Some(name)) {
            Ok(user) => user,
            Err(why) => return refused(format!("the run user does not exist on this host: {why}")),
        };
        let (own, owner) = (own.owner.id, Owner { uid: user.owner.id, gid: user.group });
        if own != 0 && own != owner.uid {
            return refused(format!("the agent is not root and cannot run a server as {name}"));
        }
        Ok((own != owner.uid).then_some(owner))
    }
}

/// The failure that an error of the file system is.
pub fn failure_of(error: &PlaceError) -> Failure {
    let reason = match error {
        PlaceError::Unsafe { .. } => RefusalReason::TargetUnsafe,
        PlaceError::Io { .. } if error.is_disk_full() => RefusalReason::DiskFull,
        PlaceError::Io { .. }
        | PlaceError::TooLarge { .. }
        | PlaceError::TooMany { .. }
        | PlaceError::Slow { .. } => RefusalReason::IoFailed,
    };
    Failure { reason, detail: crate::chain(error) }
}

/// Checks everything that can be checked before anything is written.
///
/// # Errors
/// The first check that does not hold.
pub fn check(home: &Home, cache: &Cache, bundle: &Bundle, defaults: &Defaults) -> Result<(), Failure> {
    // A load balancer has neither, and a user of its own.
    if bundle.balancer.is_none() {
        check_pack(home.path(), bundle)?;
        check_owner(home, bundle, defaults)?;
    }
    check_config(cache, bundle)?;
    let free = home.free().map_err(|error| failure_of(&error))?;
    let needed = bundle.size().saturating_mul(2);
    if free < needed {
        let detail = format!("{free} bytes are free at the home, twice the bundle is {needed}");
        return Err(Failure { reason: RefusalReason::DiskFull, detail });
    }
    Ok(())
}

fn check_pack(home: &Path, bundle: &Bundle) -> Result<(), Failure> {
    let script = bundle.service.script();
    if !home.join("repository/conf").is_dir() || !home.join("bin").is_dir() {
        let detail = format!("{} holds no WSO2 pack: bin or repository/conf is missing", home.display());
        return Err(Failure { reason: RefusalReason::PackMissing, detail });
    }
    if !home.join(script.as_str()).is_file() && !bundle.files.contains_key(script) {
        let detail =
            format!("{script} is not there; is {} a pack of {}?", home.display(), bundle.service.product);
        return Err(Failure { reason: RefusalReason::ScriptMissing, detail });
    }
    Ok(())
}

fn check_owner(home: &Home, bundle: &Bundle, defaults: &Defaults) -> Result<(), Failure> {
    let own = crate::platform::user(None).map(|user| user.owner.id).ok();
    let wanted = defaults.owner(bundle)?.map(|owner| owner.uid).or(own);
    let facts = home.facts().map_err(|error| failure_of(&error))?;
    let (Some(uid), Some(owner)) = (wanted, facts.owner) else { return Ok(()) };
    if owner.uid == uid {
        return Ok(());
    }
    let detail = format!(
        "{} belongs to user {}, the server would run as user {uid} and could not write its configuration",
        home.path().display(),
        owner.uid
    );
    Err(Failure { reason: RefusalReason::WrongOwner, detail })
}

fn check_config(cache: &Cache, bundle: &Bundle) -> Result<(), Failure> {
    let path = &bundle.service.config_path;
    let Some(entry) = bundle.files.get(path) else { return Ok(()) };
    let invalid = |detail| Err(Failure { reason: RefusalReason::ConfigInvalid, detail });
    match cache.read(&entry.digest).map(String::from_utf8) {
        Ok(Ok(text)) => match needs::refused(&text) {
            None => Ok(()),
            Some(why) => invalid(format!("{path}, {why}; the server would not start with it")),
        },
        Ok(Err(_)) => invalid(format!("{path} is not UTF-8")),
        Err(error) => {
            let detail = format!("the content of {path} is not kept: {error}");
            Err(Failure { reason: RefusalReason::ContentUnavailable, detail })
        }
    }
}
