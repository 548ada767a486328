//! Members of NGINX that hooks take out and put back: files beside the generated one, a check, a reload
//! (docs/decisions/0085-members-of-nginx-are-taken-out.md).
//!
//! Promises: an order is done when NGINX runs with it, and what fails leaves the files as they were; files are written
//! in an order in which NGINX could read them after a crash between any two; no order runs beside a reload.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use fleet::{
    balancer::out::{DIRECTORY, Upstream, map_file, map_text, members_out, upstream_file},
    bundle::FILE_SIZE_MAX,
    observed::ProcessIdentity,
};

use super::{Balancer, master, reload};
use crate::{files, private};

/// What is known of members, in memory.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Held over an order and over a reload of the engine's.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What NGINX runs without, by upstream. An upstream that is not here was not looked at since the agent began.
    loaded: BTreeMap<String, BTreeSet<String>>,
    /// Who may still send requests to a member that is out.
    before: BTreeMap<Member, Workers>,
}

/// A member of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) upstream: String,
    pub(super) name: String,
}

/// Workers of a master.
#[derive(Debug, Clone)]
struct Workers {
    master: ProcessIdentity,
    workers: Vec<(u32, u64)>,
}

impl Workers {
    fn alive(&self) -> usize {
        let now = master::workers(&self.master);
        self.workers.iter().filter(|worker| now.contains(worker)).count()
    }
}

/// What a member should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Out,
    In,
}

/// Why an order was not done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The generated file has no such upstream, or it cannot be changed.
    NoUpstream(String),
    /// The upstream has no such member.
    NoMember(String),
    /// Anything else; nothing has changed.
    Failed(String),
}

/// A member as it is told to hooks.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) member: Member,
    pub(super) is_out: bool,
    /// Old workers that may still send requests to one that is out; `None`: not known.
    pub(super) old_workers: Option<usize>,
}

/// The files of members that are out.
struct OutFiles(PathBuf);

impl OutFiles {
    fn of(balancer: &Balancer) -> Self {
        Self(Path::new(&balancer.0.home).join(DIRECTORY))
    }

    /// The members of an upstream that are out.
    fn out(&self, upstream: &str) -> io::Result<BTreeSet<String>> {
        let path = self.0.join(upstream_file(upstream));
        let has_map = self.0.join(map_file(upstream)).exists();
        match files::read_named(&path, FILE_SIZE_MAX) {
            Ok(text) if has_map => Ok(members_out(&String::from_utf8_lossy(&text))),
            Ok(_) => Ok(BTreeSet::new()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error),
        }
    }

    /// Durable on return.
    fn write(&self, upstream: &Upstream<'_>, out: &BTreeSet<String>) -> io::Result<()> {
        if out.is_empty() {
            return self.clear(upstream.name);
        }
        if !self.0.is_dir() {
            fs::create_dir(&self.0)?;
            private::sync_dir(self.0.parent().unwrap_or(&self.0))?;
        }
        private::write(&self.0.join(upstream_file(upstream.name)), upstream.without(out).as_bytes())?;
        private::write(&self.0.join(map_file(upstream.name)), map_text(upstream.name).as_bytes())
    }

    /// The map first: it must not name an upstream that is not there.
    fn clear(&self, upstream: &str) -> io::Result<()> {
        if !self.0.is_dir() {
            return Ok(());
        }
        private::remove(&self.0.join(map_file(upstream)))?;
        private::remove(&self.0.join(upstream_file(upstream)))
    }

    /// Upstreams of which there are files.
    fn all(&self) -> io::Result<BTreeSet<String>> {
        let listed = match fs::read_dir(&self.0) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let suffixes = [map_file(""), upstream_file("")];
        let mut found = BTreeSet::new();
        for entry in listed {
            let name = entry?.file_name().to_string_lossy().into_owned();
            found.extend(suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).map(str::to_owned));
        }
        Ok(found)
    }

    fn error(&self, error: &io::Error) -> String {
        format!("{} cannot be written: {error}", self.0.display())
    }
}

impl Members {
    fn known<T>(&self, see: impl FnOnce(&mut Known) -> T) -> T {
        see(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// While it is held nothing else changes members or reloads.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Balancer {
    fn own_file(&self) -> PathBuf {
        Path::new(&self.0.home).join(self.0.kind.file().as_str())
    }

    fn own_text(&self) -> Result<String, String> {
        let path = self.own_file();
        let text = files::read_named(&path, FILE_SIZE_MAX);
        let text = text.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        String::from_utf8(text).map_err(|_| format!("{} is not UTF-8", path.display()))
    }

    /// Takes a member out or puts it back; done when new workers of NGINX run with it.
    pub(super) async fn set_member(&self, member: &Member, wish: Wish) -> Result<(), Refusal> {
        let _turn = self.0.members.turn().await;
        let config = self.own_text().map_err(Refusal::Failed)?;
        let upstream = found(&config, member, &self.own_file())?;
        let files = OutFiles::of(self);
        let was = files.out(&member.upstream).map_err(|error| Refusal::Failed(files.error(&error)))?;
        let mut out = was.clone();
        match wish {
            Wish::Out => out.insert(member.name.clone()),
            Wish::In => out.remove(&member.name),
        };
        let members = upstream.members();
        out.retain(|name| members.contains(name.as_str()));
        if out == was && self.0.members.known(|known| known.loaded.get(&member.upstream) == Some(&out)) {
            return Ok(());
        }
        let master = self.master().await.ok_or_else(|| {
            Refusal::Failed(
                "NGINX does not run, so nobody was told; start it, or correct `unit` or `pid_file` of \
                             `balancer` in the agent.toml of its host"
                    .to_owned(),
            )
        })?;
        if let Err(why) = self.take_over(&files, (&upstream, &out), &master).await {
            let undone = files.write(&upstream, &was).err().map(|error| files.error(&error));
            let state = undone.unwrap_or_else(|| "nothing has changed".to_owned());
            return Err(Refusal::Failed(format!("{why}; {state}")));
        }
        tracing::info!(
            upstream = member.upstream,
            member = member.name,
            ?wish,
            "NGINX runs with another set of members"
        );
        Ok(())
    }

    async fn take_over(
        &self,
        files: &OutFiles,
        (upstream, out): (&Upstream<'_>, &BTreeSet<String>),
        master: &ProcessIdentity,
    ) -> Result<(), String> {
        files.write(upstream, out).map_err(|error| files.error(&error))?;
        self.whole().await?;
        let fresh = reload::renew(self, master).await.inspect_err(|_| {
            // It may still load what it was told to.
            self.0.members.known(|known| known.loaded.remove(upstream.name));
        })?;
        self.0.members.known(|known| {
            let was = known.loaded.insert(upstream.name.to_owned(), out.clone()).unwrap_or_default();
            let of = |name: &String| Member { upstream: upstream.name.to_owned(), name: name.clone() };
            known.before.retain(|member, _| member.upstream != upstream.name || out.contains(&member.name));
            for name in out.difference(&was) {
                let workers = Workers { master: master.clone(), workers: fresh.before.clone() };
                known.before.entry(of(name)).or_insert(workers);
            }
        });
        Ok(())
    }

    /// Brings the files of members that are out in line with the generated file, which has changed. The caller holds the
    /// turn and reloads next.
    pub(super) fn refresh_members(&self) -> Result<(), String> {
        let (config, files) = (self.own_text()?, OutFiles::of(self));
        let failed = |error: io::Error| files.error(&error);
        let upstreams = Upstream::all(&config);
        for name in files.all().map_err(failed)? {
            let Some(upstream) = upstreams.iter().find(|upstream| upstream.name == name) else {
                files.clear(&name).map_err(failed)?;
                continue;
            };
            let members = upstream.members();
            let mut out = files.out(&name).map_err(failed)?;
            out.retain(|name| members.contains(name.as_str()));
            files.write(upstream, &out).map_err(failed)?;
        }
        Ok(())
    }

    /// NGINX runs with the files as they are now. The caller has held the turn since [`Balancer::refresh_members`].
    pub(super) fn members_loaded(&self) {
        let Ok(config) = self.own_text() else { return };
        let files = OutFiles::of(self);
        let out = |upstream: &Upstream<'_>| Some((upstream.name.to_owned(), files.out(upstream.name).ok()?));
        let loaded = Upstream::all(&config).iter().filter_map(out).collect();
        self.0.members.known(|known| known.loaded = loaded);
    }

    /// Every member of the generated file.
    pub(super) fn standings(&self) -> Result<Vec<Standing>, String> {
        let (config, files) = (self.own_text()?, OutFiles::of(self));
        let mut standings = Vec::new();
        for upstream in Upstream::all(&config) {
            let out = files.out(upstream.name).map_err(|error| files.error(&error))?;
            for name in upstream.members() {
                let member = Member { upstream: upstream.name.to_owned(), name: name.to_owned() };
                let is_out = out.contains(name);
                let old = self.0.members.known(|known| known.before.get(&member).cloned());
                let old_workers = old.filter(|_| is_out).map(|workers| workers.alive());
                standings.push(Standing { member, is_out, old_workers });
            }
        }
        Ok(standings)
    }
}

fn found<'a>(config: &'a str, member: &Member, path: &Path) -> Result<Upstream<'a>, Refusal> {
    let all = Upstream::all(config);
    let names = |names: &mut dyn Iterator<Item = &str>| {
        let names = names.collect::<Vec<_>>().join(", ");
        if names.is_empty() { "none".to_owned() } else { names }
    };
    let known = names(&mut all.iter().map(|upstream| upstream.name));
    let Some(upstream) = all.into_iter().find(|upstream| upstream.name == member.upstream) else {
        return Err(Refusal::NoUpstream(format!(
            "{} has no upstream {} whose members can be taken out (it has: {known}); its name is that of a service in \
             [balancers] of fleet.toml, and a file of an earlier version needs one apply of the balancer first",
            path.display(),
            member.upstream
        )));
    };
    if upstream.members().contains(member.name.as_str()) {
        return Ok(upstream);
    }
    Err(Refusal::NoMember(format!(
        "upstream {} in {} has no member {} (it has: {})",
        member.upstream,
        path.display(),
        member.name,
        names(&mut upstream.members().into_iter())
    )))
}
