//! What a data directory must be before a coordinator starts on it, and how an operator gets on when it is not.
//!
//! A store or an authority that is missing where there was one is never replaced silently: an empty store looks like an
//! empty fleet, and a new authority locks everybody out. Each case is refused with the command that goes on from there.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fleet::{
    ids::{FleetEpoch, Revision, RolloutId},
    time::Timestamp,
};

use crate::{
    RunError,
    authority::Authority,
    config::Config,
    coordinator::{OpenError, open_meta},
    events::{Draft, Events, Kind},
    private,
    secrets::Vault,
    store::{
        CommitError, Embedded, Key, Range, Store, StoreError, Transaction,
        records::{Meta, NodeRecord, Record as _},
    },
    tasks::Tasks,
    witness::{Revocable, Witness, commits},
};

/// Where the proof of the right key is bound to.
const KEY_CHECK: &str = "key check";
/// Records that one commit changes.
const BATCH: usize = 64;

/// What an operator decides after a loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The store is lost and there is no copy of it.
    NewStore {
        /// That agents obey; `None`: the one that the witness saw.
        epoch: Option<FleetEpoch>,
    },
    /// The authority's key is lost and there is no copy of it.
    NewAuthority,
    /// The key that content and secrets are sealed under is lost and there is no copy of it.
    NewKey,
    /// The store was restored from an older copy.
    RestoredStore,
}

/// Why a data directory is not started on, or not recovered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The store is gone, or has 0 bytes.
    #[error(
        "{} is missing or empty, and {} shows that this data directory had a fleet. Restore the store from a copy; if there \
         is none, make a new one with `convoy-coordinator --config FILE recover new-store`", store.display(), authority.display()
    )]
    StoreGone {
        /// Its file.
        store: PathBuf,
        /// The authority's file.
        authority: PathBuf,
    },
    /// The authority's key is gone.
    #[error(
        "{} is missing, and the store beside it has a fleet whose nodes trust it. Restore it from a copy; if there is none, \
         make a new one with `convoy-coordinator --config FILE recover new-authority`, and enrol every node again", path.display()
    )]
    AuthorityGone {
        /// Its file.
        path: PathBuf,
    },
    /// The key is gone.
    #[error(
        "{} is missing, and the store's content and secrets are sealed under it. Restore it from a copy; if there is none, \
         go on without them with `convoy-coordinator --config FILE recover new-key`, and apply again", path.display()
    )]
    KeyGone {
        /// Its file.
        path: PathBuf,
    },
    /// There is something to lose.
    #[error("{} is there: move it away first if it really is of no use any more", path.display())]
    StillThere {
        /// What.
        path: PathBuf,
    },
    /// There is no store that could be recovered.
    #[error("the store has no fleet yet; start the coordinator without `recover`")]
    NothingToRecover,
    /// Nobody says which store the agents obey.
    #[error(
        "witness.toml does not say which store the agents obey; give `--epoch HEX`, as the coordinator's log names it at its start \
         and when an agent obeys another store"
    )]
    EpochUnknown,
}

/// The files of a data directory that belong together.
struct Files {
    store: PathBuf,
    authority: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(data_dir: &Path) -> Self {
        Self {
            store: data_dir.join("store.redb"),
            authority: data_dir.join("ca/authority.pem"),
            key: data_dir.join("secrets.key"),
        }
    }

    fn has_store(&self) -> io::Result<bool> {
        match fs::metadata(&self.store) {
            Ok(found) => Ok(found.len() != 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Opens the store of a data directory, unless its authority shows that a store is missing.
pub(crate) fn open_store(data_dir: &Path, tasks: &Tasks) -> Result<Arc<dyn Store>, RunError> {
    let files = Files::of(data_dir);
    let data_error = |source| RunError::DataDir { path: data_dir.to_owned(), source };
    // The store is made before the authority, so an authority without a store was left by a loss.
    if !files.has_store().map_err(data_error)? && files.authority.try_exists().map_err(data_error)? {
        return Err(Refusal::StoreGone { store: files.store, authority: files.authority }.into());
    }
    Ok(Arc::new(Embedded::open(move || private::open(&files.store), tasks)?))
}

/// Opens the authority of a data directory, or makes the first one.
pub(crate) async fn open_authority(
    store: &dyn Store,
    config: &Config,
    now: Timestamp,
) -> Result<Authority, RunError> {
    let path = Files::of(&config.data_dir).authority;
    let is_there = path.try_exists().map_err(|source| RunError::DataDir { path: path.clone(), source })?;
    // A store that cannot be read at all is told first.
    let meta = store.get(&Key::meta()).await?.as_ref().map(Meta::read).transpose()?;
    if !is_there && meta.is_some() {
        return Err(Refusal::AuthorityGone { path }.into());
    }
    Ok(Authority::open(&config.data_dir.join("ca"), &config.fleet, now)?)
}

/// Opens the key of a data directory, or makes the first one.
pub(crate) async fn open_vault(store: &dyn Store, config: &Config) -> Result<Vault, RunError> {
    let path = Files::of(&config.data_dir).key;
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    let meta = store.get(&Key::meta()).await?.as_ref().map(Meta::read).transpose()?;
    let check = meta.and_then(|meta| meta.key_check);
    if check.is_some() && !path.try_exists().map_err(data_error)? {
        return Err(Refusal::KeyGone { path }.into());
    }
    let vault = Vault::open(&path, &config.fleet).map_err(data_error)?;
    match check {
        Some(check) if vault.open_content(KEY_CHECK, &check).is_none() => Err(OpenError::OtherKey.into()),
        Some(_) | None => Ok(vault),
    }
}

/// Binds a store to its key, so that another one is noticed.
pub(crate) async fn bind_key(store: &dyn Store, vault: &Vault) -> Result<(), RunError> {
    loop {
        let entry = store.get(&Key::meta()).await?.ok_or(Refusal::NothingToRecover)?;
        let meta = Meta::read(&entry)?;
        if meta.key_check.is_some() {
            return Ok(());
        }
        let bound = Meta { key_check: vault.seal_content(KEY_CHECK, b"convoy"), ..meta };
        let commit = Transaction::default().replace(Key::meta(), entry.version, bound.encode());
        match store.commit(commit).await {
            Ok(_) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(refused(error)),
        }
    }
}

/// Carries out what an operator decided; the coordinator must not run. Answers with what to do next.
///
/// # Errors
/// It is not what the data directory needs, or it could not be done.
pub async fn recover(config: &Config, recovery: Recovery, now: Timestamp) -> Result<String, RunError> {
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    private::create_dir(&config.data_dir).map_err(data_error)?;
    let tasks = Tasks::new(tokio_util::sync::CancellationToken::new());
    let next = match recovery {
        Recovery::NewStore { epoch } => new_store(config, epoch, &tasks).await,
        Recovery::NewAuthority => new_authority(config, now, &tasks).await,
        Recovery::NewKey => new_key(config, now, &tasks).await,
        Recovery::RestoredStore => restored_store(config, now, &tasks).await,
    };
    tasks.stop().cancel();
    // The file of the store is free only then.
    tasks.ended().await;
    next
}

async fn new_store(config: &Config, epoch: Option<FleetEpoch>, tasks: &Tasks) -> Result<String, RunError> {
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    let files = Files::of(&config.data_dir);
    if files.has_store().map_err(data_error)? {
        return Err(Refusal::StillThere { path: files.store }.into());
    }
    let witness = Witness::open(&config.data_dir).map_err(data_error)?;
    let epoch = epoch.or_else(|| witness.epoch()).ok_or(Refusal::EpochUnknown)?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(move || private::open(&files.store), tasks)?);
    let meta = Meta {
        epoch,
        fleet: config.fleet.clone(),
        newest_revision: Revision(0),
        newest_rollout: RolloutId(0),
        authority: None,
        key_check: None,
    };
    let made = store.commit(Transaction::default().replace(Key::meta(), 0, meta.encode())).await;
    witness.saw(epoch, made.map_err(refused)?).map_err(data_error)?;
    Ok(format!(
        "made an empty store with epoch {epoch}, which the agents obey. Start the coordinator, apply the fleet directory, \
         set the secrets, then enrol every node again with a new join token: their certificates were recorded in the lost \
         store. Servers go on running meanwhile"
    ))
}

async fn new_authority(config: &Config, now: Timestamp, tasks: &Tasks) -> Result<String, RunError> {
    let files = Files::of(&config.data_dir);
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    if files.authority.try_exists().map_err(data_error)? {
        return Err(Refusal::StillThere { path: files.authority }.into());
    }
    let store = open_store(&config.data_dir, tasks)?;
    let entry = store.get(&Key::meta()).await?.ok_or(Refusal::NothingToRecover)?;
    let meta = Meta::read(&entry)?;
    // Its certificates end first: whoever finds the lost key must not be anybody.
    void_tokens(&*store).await?;
    let ended = end_enrolments(&*store, |_| true).await?;
    let unpinned = Meta { authority: None, ..meta };
    let unpin = Transaction::default().replace(Key::meta(), entry.version, unpinned.encode());
    store.commit(unpin).await.map_err(refused)?;
    let authority = Authority::open(&config.data_dir.join("ca"), &config.fleet, now)?;
    open_meta(&*store, &config.fleet, FleetEpoch(rand::random()), authority.fingerprint()).await?;
    record(&store, config, tasks, Draft::new(now, Kind::Recovered, "a new authority was made")).await?;
    Ok(format!(
        "made a new authority. Start the coordinator, give every operator the new context file, and enrol every node again \
         with a new join token ({ended} had joined)"
    ))
}

async fn new_key(config: &Config, now: Timestamp, tasks: &Tasks) -> Result<String, RunError> {
    let path = Files::of(&config.data_dir).key;
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    if path.try_exists().map_err(data_error)? {
        return Err(Refusal::StillThere { path }.into());
    }
    let store = open_store(&config.data_dir, tasks)?;
    remove_all(&*store, Key::BLOBS).await?;
    let secrets = remove_all(&*store, Key::SECRETS).await?;
    let entry = store.get(&Key::meta()).await?.ok_or(Refusal::NothingToRecover)?;
    let unbound = Meta { key_check: None, ..Meta::read(&entry)? };
    let commit = Transaction::default().replace(Key::meta(), entry.version, unbound.encode());
    store.commit(commit).await.map_err(refused)?;
    let text = format!("the key was lost: all content and {secrets} secrets are gone");
    record(&store, config, tasks, Draft::new(now, Kind::Recovered, text.clone())).await?;
    Ok(format!(
        "{text}. Start the coordinator, set the secrets, and apply the fleet directory: until then no agent can be given files, \
         and revisions of before cannot be gone back to. Servers go on running meanwhile"
    ))
}

async fn restored_store(config: &Config, now: Timestamp, tasks: &Tasks) -> Result<String, RunError> {
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    let store = open_store(&config.data_dir, tasks)?;
    let meta = Meta::read(&store.get(&Key::meta()).await?.ok_or(Refusal::NothingToRecover)?)?;
    let witness = Witness::open(&config.data_dir).map_err(data_error)?;
    let tokens = void_tokens(&*store).await?;
    let is_revoked = |serial: &str| witness.is_revoked(&Revocable::Certificate(serial.to_owned()));
    let ended = end_enrolments(&*store, is_revoked).await?;
    let text = format!(
        "an older store was accepted: {tokens} join tokens are void, and {ended} certificates stay revoked"
    );
    record(&store, config, tasks, Draft::new(now, Kind::Recovered, text.clone())).await?;
    let seen = commits(&*store).await.map_err(refused)?;
    witness.saw(meta.epoch, seen).map_err(data_error)?;
    Ok(format!(
        "{text}. Start the coordinator, compare `convoy plan DIR` with what was applied last, and enrol those nodes again that \
         joined or renewed their certificate after the copy was made: they are refused as replaced"
    ))
}

/// Makes every join token void that could still be used.
async fn void_tokens(store: &dyn Store) -> Result<usize, RunError> {
    remove_all(store, Key::TOKENS).await
}

async fn remove_all(store: &dyn Store, prefix: &str) -> Result<usize, RunError> {
    let mut count = 0;
    loop {
        let found = store.range(Range::first(prefix, BATCH)).await?;
        if found.is_empty() {
            return Ok(count);
        }
        count += found.len();
        let removal = found.into_iter().fold(Transaction::default(), |all, entry| all.delete(entry.key));
        store.commit(removal).await.map_err(refused)?;
    }
}

/// Ends the enrolment of every node whose certificate `is_void`.
async fn end_enrolments(store: &dyn Store, is_void: impl Fn(&str) -> bool) -> Result<usize, RunError> {
    let mut count = 0;
    for entry in store.range(Range::first(Key::NODES, usize::MAX)).await? {
        let mut node = NodeRecord::read(&entry)?;
        if node.enrolment.take_if(|own| is_void(&own.serial)).is_some() {
            let change = Transaction::default().replace(entry.key, entry.version, node.encode());
            store.commit(change).await.map_err(refused)?;
            count += 1;
        }
    }
    Ok(count)
}

async fn record(
    store: &Arc<dyn Store>,
    config: &Config,
    tasks: &Tasks,
    event: Draft,
) -> Result<(), RunError> {
    let events = Events::start(store.clone(), config.history.events, tasks).await?;
    events.append(vec![event], Transaction::default()).await.map_err(refused)?;
    Ok(())
}

fn refused(error: CommitError) -> RunError {
    RunError::Store(StoreError::not_committed(error))
}
