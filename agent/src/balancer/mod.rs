//! A load balancer that this agent looks after: found by its unit or pid file, checked by its own program, and told to
//! read its configuration anew. It is never started as a child of the agent
//! (docs/decisions/0078-balancers-are-members-of-the-fleet.md).

#[cfg(target_os = "linux")]
#[path = "master_linux.rs"]
mod master;
#[cfg(not(target_os = "linux"))]
#[path = "master_none.rs"]
mod master;
#[cfg_attr(not(unix), allow(dead_code, reason = "its orders come over a unix socket"))]
mod members;
mod reload;
mod run;
#[cfg(unix)]
mod socket;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fleet::{
    balancer::{Kind, doubts, refusal},
    bundle::Bundle,
    node::{Event, Failure},
    observed::{ProcessIdentity, RefusalReason},
    preflight::{
        Check, Outcome, PreflightFacts, check_balancer,
        facts::{BalancerFact, Judged, Seen},
    },
};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{call::runtime_command, preflight::Subject, process::wait_for_end, unit::Unit};

/// For the answer of the agent's own socket.
const SOCKET_TIME: std::time::Duration = std::time::Duration::from_secs(5);

/// What the file that keeps states over a reload is called, below the home.
pub(crate) const STATE_FILE: &str = "convoy.state";

/// `[balancer]` of the agent's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalancerConfig {
    /// `haproxy` or `nginx`.
    pub kind: KindWord,
    /// Directory of the generated file, absolute: `/etc/haproxy`, `/etc/nginx/conf.d`.
    pub home: String,
    /// The program, absolute.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// The systemd unit that runs it.
    #[serde(default)]
    pub unit: Option<String>,
    /// Where its master process writes its number, if no unit runs it.
    #[serde(default)]
    pub pid_file: Option<PathBuf>,
    /// HAProxy's runtime socket, by which the states of its servers outlive a reload. With NGINX the agent listens there
    /// for hooks.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The group whose users may open the socket of an NGINX.
    #[serde(default)]
    pub socket_group: Option<String>,
    /// NGINX's own configuration, which includes the generated file.
    #[serde(default)]
    pub main: Option<PathBuf>,
}

/// As typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindWord {
    /// HAProxy.
    Haproxy,
    /// NGINX.
    Nginx,
}

impl BalancerConfig {
    /// Which program.
    pub const fn kind(&self) -> Kind {
        match self.kind {
            KindWord::Haproxy => Kind::Haproxy,
            KindWord::Nginx => Kind::Nginx,
        }
    }

    /// What cannot be used, as a clause about the key `balancer`.
    pub(crate) fn refused(&self) -> Option<String> {
        if !cfg!(target_os = "linux") {
            return Some("cannot be used here: load balancers are looked after on Linux only".to_owned());
        }
        if !Path::new(&self.home).is_absolute() {
            return Some(format!("has the home {:?}; write it absolute", self.home));
        }
        let paths = [&self.program, &self.pid_file, &self.socket, &self.main];
        if let Some(path) = paths.into_iter().flatten().find(|path| !path.is_absolute()) {
            return Some(format!("holds {}; write the whole path", path.display()));
        }
        if self.unit.is_some() == self.pid_file.is_some() {
            return Some(
                "needs one of `unit`, as in unit = \"haproxy.service\", and `pid_file`, by which the running program is \
                 found"
                    .to_owned(),
            );
        }
        match self.kind() {
            Kind::Haproxy if self.main.is_some() => Some("has `main`, which only NGINX has".to_owned()),
            Kind::Haproxy if self.socket_group.is_some() => {
                Some("has `socket_group`; HAProxy opens its socket itself, as haproxy.cfg says".to_owned())
            }
            Kind::Nginx if self.socket_group.is_some() && self.socket.is_none() => {
                Some("has `socket_group` and no `socket`".to_owned())
            }
            Kind::Haproxy | Kind::Nginx => None,
        }
    }
}

/// A load balancer of this host.
#[derive(Debug, Clone)]
pub struct Balancer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    home: String,
    program: PathBuf,
    unit: Option<Unit>,
    pid_file: PathBuf,
    socket: Option<PathBuf>,
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no unix sockets"))]
    socket_group: Option<String>,
    /// Of NGINX, which of its members hooks have taken out.
    members: members::Members,
    /// What the program reads: the generated file itself, or what includes it.
    main: PathBuf,
    /// Scratch of the agent.
    data_dir: PathBuf,
    events: mpsc::Sender<Event>,
}

impl Balancer {
    /// As configured; `unit` is the one that the configuration names.
    pub fn new(
        config: &BalancerConfig,
        unit: Option<Unit>,
        data_dir: &Path,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let kind = config.kind();
        let program = config.program.clone().unwrap_or_else(|| Path::new("/usr/sbin").join(kind.as_str()));
        let own = Path::new(&config.home).join(kind.file().as_str());
        let main = match kind {
            Kind::Haproxy => own,
            Kind::Nginx => config.main.clone().unwrap_or_else(|| PathBuf::from("/etc/nginx/nginx.conf")),
        };
        Self(Arc::new(Inner {
            kind,
            home: config.home.clone(),
            program,
            unit,
            pid_file: config.pid_file.clone().unwrap_or_default(),
            socket: config.socket.clone(),
            socket_group: config.socket_group.clone(),
            members: members::Members::default(),
            main,
            data_dir: data_dir.to_owned(),
            events,
        }))
    }

    /// Whether this home is its.
    pub fn is_at(&self, home: &str) -> bool {
        self.0.home.trim_end_matches('/') == home.trim_end_matches('/')
    }

    /// Tells the engine which process is its master.
    pub async fn look(self) {
        let found = self.servers().await;
        self.tell(Event::Found(found)).await;
    }

    /// Its master process, if it runs.
    pub async fn servers(&self) -> Vec<ProcessIdentity> {
        self.master().await.into_iter().collect()
    }

    async fn master(&self) -> Option<ProcessIdentity> {
        let pid = match &self.0.unit {
            Some(unit) => unit.look().await.ok().map(|fact| fact.main_pid).filter(|pid| *pid != 0)?,
            None => {
                let text = fs::read_to_string(&self.0.pid_file).ok()?;
                text.split_whitespace().next()?.parse().ok()?
            }
        };
        master::of(pid, &self.0.program)
    }

    /// Has systemd start it if it does not run, and follows it to its end.
    pub async fn launch(self) {
        if let Some(master) = self.master().await {
            return self.tell(Event::Found(vec![master])).await;
        }
        match self.start().await {
            Ok(master) => {
                self.tell(Event::Launched(master.clone())).await;
                self.follow(master).await;
            }
            Err(detail) => {
                let failure = Failure { reason: RefusalReason::StartFailed, detail };
                self.tell(Event::LaunchFailed(failure)).await;
            }
        }
    }

    async fn start(&self) -> Result<ProcessIdentity, String> {
        let title = self.0.kind.title();
        let Some(unit) = &self.0.unit else {
            return Err(format!(
                "{title} does not run ({} names no such process), and an agent starts it by systemd only: start it, or \
                 name its `unit` in [balancer] of the agent's configuration",
                self.0.pid_file.display()
            ));
        };
        self.whole().await?;
        let fact = unit.look().await.map_err(|error| crate::chain(&error))?;
        unit.start(&fact).await.map_err(|error| crate::chain(&error))?;
        self.master().await.ok_or_else(|| format!("{} was started, and nothing of {title} runs", unit.name()))
    }

    /// Follows its master to its end.
    pub async fn follow(self, master: ProcessIdentity) {
        let pid = master.pid;
        wait_for_end(master.clone()).await;
        let how = format!("the master process {pid} of {} ended", self.0.kind.title());
        self.tell(Event::Exited { process: master, how }).await;
    }

    /// Answers hooks that take members of NGINX out, where the configuration has a socket for them.
    ///
    /// # Errors
    /// Never: what fails is logged and tried again.
    #[cfg(unix)]
    pub(crate) async fn serve_hooks(self) -> Result<(), String> {
        match (self.0.kind, self.0.socket.clone()) {
            (Kind::Nginx, Some(path)) => socket::serve(self, &path).await,
            (Kind::Nginx, None) | (Kind::Haproxy, _) => Ok(()),
        }
    }

    /// Has it read its configuration anew.
    pub async fn reload(self, run: u64, master: ProcessIdentity, bundle: Arc<Bundle>) {
        let outcome = reload::reload(&self, &master, &bundle).await;
        self.tell(Event::Reloaded { run, outcome }).await;
    }

    /// What is known of it before anything of a bundle is staged.
    pub(crate) async fn gather(&self, subject: &Subject) -> PreflightFacts {
        let Some(wanted) = subject.balancer else { return PreflightFacts::default() };
        let fact =
            BalancerFact { wanted, looked_after: Some(self.0.kind), config: self.try_out(subject).await };
        PreflightFacts { balancer: Some(fact), now: crate::wall_clock(), ..PreflightFacts::default() }
    }

    /// How it is now: whether it runs, and whether its program takes what it would read.
    pub(crate) async fn doctor(&self) -> Vec<Check> {
        let (kind, title) = (self.0.kind, self.0.kind.title());
        let outcome = match self.master().await {
            Some(master) => Outcome::Pass(format!("process {} is the master of {title}", master.pid)),
            None => Outcome::Fail {
                why: format!("{title} does not run, or not as master and workers"),
                remedy: "start it, or correct `unit` or `pid_file` of `balancer` in agent.toml".to_owned(),
                reason: RefusalReason::PreflightFailed,
            },
        };
        let own = Path::new(&self.0.home).join(kind.file().as_str());
        let runs = Check { name: "balancer", subject: "process".to_owned(), outcome };
        let taken = if own.exists() {
            let main = self.0.main.display().to_string();
            let config = self.asked(&self.0.main, (&main, &main)).await;
            check_balancer(&BalancerFact { wanted: kind, looked_after: Some(kind), config })
        } else {
            let why = format!("{} is not there yet", own.display());
            Check { name: "balancer", subject: title.to_owned(), outcome: Outcome::Skipped(why) }
        };
        [runs, taken].into_iter().chain(self.socket_check().await).collect()
    }

    /// Whether hooks reach the agent of an NGINX that is to answer them.
    async fn socket_check(&self) -> Option<Check> {
        let path = self.0.socket.as_ref().filter(|_| self.0.kind == Kind::Nginx)?.display().to_string();
        let asked = tokio::time::timeout(SOCKET_TIME, runtime_command(&path, "show stat")).await;
        let outcome = match asked.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(table) if table.starts_with('#') => {
                let out = table.lines().filter(|line| line.ends_with(",DRAIN")).count();
                Outcome::Pass(format!("hooks are answered; {out} members are out of service"))
            }
            Ok(said) => Outcome::Pass(format!("hooks are answered; {}", said.trim())),
            Err(error) => Outcome::Fail {
                why: format!("hooks are not answered: {error}"),
                remedy: "start the agent; its log says why it cannot listen there".to_owned(),
                reason: RefusalReason::PreflightFailed,
            },
        };
        Some(Check { name: "balancer", subject: path, outcome })
    }

    /// The program's own judgement of the text that is to come.
    async fn try_out(&self, subject: &Subject) -> Seen<Judged> {
        let path = self.0.kind.file();
        let target = Path::new(&self.0.home).join(path.as_str());
        // Without a bundle it is what lies there.
        let candidate = subject.staged.get(&path).cloned().unwrap_or_else(|| target.clone());
        let shown = match self.0.kind {
            Kind::Haproxy => candidate.clone(),
            Kind::Nginx => self.around(&candidate).map_err(|error| error.to_string())?,
        };
        let names = (candidate.display().to_string(), target.display().to_string());
        self.asked(&shown, (&names.0, &names.1)).await
    }

    /// A whole configuration of NGINX around one file that is usually included.
    fn around(&self, candidate: &Path) -> std::io::Result<PathBuf> {
        let dir = self.0.data_dir.join("balancer");
        crate::private::create_dir(&dir)?;
        let (dir_text, path) = (dir.display(), dir.join("nginx.conf"));
        let text = format!(
            "pid {dir_text}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path \
             {dir_text}/t;\n  proxy_temp_path {dir_text}/t;\n  fastcgi_temp_path {dir_text}/t;\n  uwsgi_temp_path \
             {dir_text}/t;\n  scgi_temp_path {dir_text}/t;\n  include {};\n}}\n",
            candidate.display()
        );
        crate::private::write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Whether the program takes the configuration that it would read now.
    async fn whole(&self) -> Result<(), String> {
        let main = self.0.main.display().to_string();
        match self.asked(&self.0.main, (&main, &main)).await {
            Ok(Judged::Takes | Judged::Doubts(_)) => Ok(()),
            Ok(Judged::Refuses(words)) => {
                Err(format!("{} refuses its configuration: {words}", self.0.kind.title()))
            }
            Err(why) => Err(format!("{} cannot be asked about it: {why}", self.0.program.display())),
        }
    }

    /// What the program says to a whole configuration; names of files in its words are changed.
    async fn asked(&self, config: &Path, names: (&str, &str)) -> Seen<Judged> {
        let flag = match self.0.kind {
            Kind::Haproxy => ["-c", "-f"],
            Kind::Nginx => ["-t", "-c"],
        };
        let said = run::run(&self.0.program, &flag, config).await?;
        if !said.is_good {
            return Ok(Judged::Refuses(refusal(self.0.kind, &said.text, names)));
        }
        let doubts = doubts(self.0.kind, &said.text, names);
        Ok(doubts.map_or(Judged::Takes, Judged::Doubts))
    }

    async fn tell(&self, event: Event) {
        // Only fails when the agent is ending.
        drop(self.0.events.send(event).await);
    }
}
