//! How fast an edit is noticed and undone, against a bare loop of inotify, hash, write, fsync and rename in the same run
//! on the same disk; what the agent costs while nothing happens; how long a scan takes.
//!
//! Among the tests this runs small and with the test's own build, to see that it works. `cargo xtask bench agent` asks for
//! all of it, with a release build.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    env, fs,
    io::Write as _,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fleet::ids::Digest;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags},
};

use crate::{
    disk::{Disk, Files},
    rig::CONFIG,
};

mod busy;

/// Longer than anything here takes.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
const DIRECTORIES: usize = 10;

/// How much is measured.
struct Scale {
    files: usize,
    edits: usize,
    idle: Duration,
    scanned: usize,
    /// Of the host, each with both its ends there.
    connections: usize,
}

impl Scale {
    fn asked() -> (Self, Option<PathBuf>) {
        match env::var_os("CONVOY_BENCH_AGENT") {
            Some(program) => {
                let idle = Duration::from_secs(60);
                (
                    Self { files: 500, edits: 1_000, idle, scanned: 1_999, connections: 25_000 },
                    Some(program.into()),
                )
            }
            None => {
                let idle = Duration::from_millis(300);
                (Self { files: 50, edits: 40, idle, scanned: 100, connections: 400 }, None)
            }
        }
    }
}

#[tokio::test]
async fn edits_are_undone_about_as_fast_as_a_bare_loop_could() -> Result<()> {
    let (scale, program) = Scale::asked();
    let mut disk = Disk::open().await?;
    if let Some(program) = &program {
        disk.agent().set_program(program);
    }
    println!("agent: {}", program.map_or("the test's own build".to_owned(), |it| it.display().to_string()));
    let managed = files(scale.files);
    let target = disk.desire(&managed)?;
    disk.reach(target).await?;
    let pid = disk.agent().daemon.as_ref().and_then(|it| it.pid()).context("it runs")?;
    rest(&disk, pid, &scale).await?;
    edit(&disk, &managed, scale.edits)?;
    println!("memory after {} edits: {}", scale.edits, memory(pid)?);
    disk.agent().kill().await?;

    let many = files(scale.scanned);
    let target = disk.desire(&many)?;
    disk.reach(target).await?;
    disk.agent().kill().await?;
    disk.agent().add_setting("[log]\nlevel = \"agent=debug\"")?;
    disk.agent().start()?;
    scan(&mut disk, scale.scanned).await
}

fn files(count: usize) -> Files {
    let path = |n: usize| format!("repository/conf/bench/d{}/f{n}.properties", n % DIRECTORIES);
    let text = |n: usize| format!("# file {n}\n{}", "key = value\n".repeat(300)).into_bytes();
    let mut files: Files = (0..count).map(|n| (path(n), text(n))).collect();
    files.insert(CONFIG.to_owned(), b"[server]\nhostname = \"bench\"\n".to_vec());
    files
}

/// What the agent needs while nothing happens.
async fn rest(disk: &Disk, pid: u32, scale: &Scale) -> Result<()> {
    let time = scale.idle;
    // The first scan and the first measurements are over when nothing is worked on for a while.
    let mut before = None;
    loop {
        let now = cpu(pid)?;
        if before == Some(now) {
            break;
        }
        before = Some(now);
        tokio::time::sleep(time.min(Duration::from_secs(3))).await;
    }
    let (begun, used) = (Instant::now(), cpu(pid)?);
    tokio::time::sleep(time).await;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let seconds = (cpu(pid)? - used) as f64 / 100.0;
    println!(
        "idle with {} files in {}: memory {}; {:.3} CPU seconds a minute (goal under 0.05); {} threads",
        scale.files + 1,
        disk.home().display(),
        memory(pid)?,
        seconds / minutes,
        fs::read_dir(format!("/proc/{pid}/task"))?.count(),
    );
    Ok(())
}

/// Hundredths of a second of CPU that a process has used.
fn cpu(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = text.rsplit_once(')').context("a name in parentheses")?.1;
    let words: Vec<&str> = rest.split_whitespace().collect();
    Ok(words[11].parse::<u64>()? + words[12].parse::<u64>()?)
}

fn memory(pid: u32) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib =
            line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse::<f64>().ok());
        kib.map_or(f64::NAN, |kib| kib / 1024.0)
    };
    let (all, own, mapped) = (of("VmRSS:"), of("RssAnon:"), of("RssFile:"));
    Ok(format!(
        "{all:.1} MiB resident, of them {own:.1} its own and {mapped:.1} mapped files (goal 12 or less)"
    ))
}

/// Edits by turns of the agent's files and of those that a bare loop keeps.
fn edit(disk: &Disk, managed: &Files, count: usize) -> Result<()> {
    let home = disk.home();
    let names: Vec<&String> = managed.keys().filter(|path| *path != CONFIG).collect();
    let watch = Watch::of(names.iter().map(|path| home.join(path)))?;
    let bare = Bare::start(&disk.rig.directory().join("bare"), names.len().min(50))?;
    let (mut noticed, mut restored, mut loops) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..count {
        let path = names[(n * 7) % names.len()];
        let target = home.join(path);
        let begun = Instant::now();
        fs::write(&target, format!("edited by hand, {n}\n"))?;
        noticed.push(
            watch.wait(begun, |name, flags| {
                flags.contains(ReadFlags::CREATE) && name.starts_with(".convoy-")
            })?,
        );
        let name = file_name(&target);
        restored.push(watch.wait(begun, |seen, flags| flags.contains(ReadFlags::MOVED_TO) && seen == name)?);
        ensure!(fs::read(&target)? == managed[path], "{path} is not as declared");
        loops.push(bare.edit(n)?);
    }
    let (noticed, restored, loops) = (Spread::of(noticed), Spread::of(restored), Spread::of(loops));
    println!("edit to detected, {count} edits: {noticed}");
    println!("edit to restored, {count} edits: {restored}");
    println!("bare loop,        {count} edits: {loops}");
    println!(
        "ratio: {:.2} at p50, {:.2} at p99 (goal under 3 at p99)",
        restored.p50.as_secs_f64() / loops.p50.as_secs_f64(),
        restored.p99.as_secs_f64() / loops.p99.as_secs_f64()
    );
    Ok(())
}

struct Spread {
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        Self { p50: at(50), p99: at(99), most: at(100) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", ms(self.p50), ms(self.p99), ms(self.most))
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// inotify on the directories of some files.
struct Watch {
    fd: OwnedFd,
    /// Events that came with an earlier one.
    seen: RefCell<VecDeque<(String, ReadFlags)>>,
}

impl Watch {
    fn of(files: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        for file in files {
            // The same directory again is the same watch.
            inotify::add_watch(&fd, file.parent().context("a directory")?, flags)?;
        }
        Ok(Self { fd, seen: RefCell::default() })
    }

    /// How long after `begun` the wanted event is there.
    fn wait(&self, begun: Instant, wanted: impl Fn(&str, ReadFlags) -> bool) -> Result<Duration> {
        loop {
            let seen = self.seen.borrow_mut().pop_front();
            match seen {
                Some((name, flags)) if wanted(&name, flags) => return Ok(begun.elapsed()),
                Some(_) => {}
                None => *self.seen.borrow_mut() = self.read()?,
            }
        }
    }

    fn read(&self) -> Result<VecDeque<(String, ReadFlags)>> {
        if poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&PATIENCE))? == 0 {
            bail!("nothing happens");
        }
        let mut events = VecDeque::new();
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut room);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(events),
                Err(error) => return Err(error.into()),
            };
            let name = event.file_name().map(|name| name.to_string_lossy().into_owned());
            events.push_back((name.unwrap_or_default(), event.events()));
            if reader.is_buffer_empty() {
                return Ok(events);
            }
        }
    }
}

/// The least that anything must do: hear of the end of a write, read, hash, write anew, fsync, rename.
struct Bare {
    files: Vec<PathBuf>,
    watch: Watch,
}

impl Bare {
    fn start(directory: &Path, count: usize) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let files: Vec<PathBuf> = (0..count).map(|n| directory.join(format!("b{n}.properties"))).collect();
        let mut desired = BTreeMap::new();
        for file in &files {
            let text = "key = value\n".repeat(300).into_bytes();
            fs::write(file, &text)?;
            desired.insert(file_name(file), (file.clone(), Digest::of(&text), text));
        }
        let (seen, watch) = (Watch::of(files.iter().cloned())?, Watch::of(files.iter().cloned())?);
        // It ends with the test's process.
        std::thread::spawn(move || -> Result<()> {
            loop {
                for (name, flags) in seen.read()? {
                    if let Some((path, digest, text)) = desired.get(&name)
                        && flags.contains(ReadFlags::CLOSE_WRITE)
                        && Digest::of(&fs::read(path)?) != *digest
                    {
                        restore(path, text)?;
                    }
                }
            }
        });
        Ok(Self { files, watch })
    }

    fn edit(&self, n: usize) -> Result<Duration> {
        let target = &self.files[n % self.files.len()];
        let begun = Instant::now();
        fs::write(target, format!("edited by hand, {n}\n"))?;
        let name = file_name(target);
        self.watch.wait(begun, |seen, flags| flags.contains(ReadFlags::MOVED_TO) && seen == name)
    }
}

fn restore(path: &Path, text: &[u8]) -> Result<()> {
    let staged = path.with_extension("new");
    let mut file = fs::File::create(&staged)?;
    file.write_all(text)?;
    file.sync_all()?;
    Ok(fs::rename(staged, path)?)
}

/// The agent says how long its first scan took, which reads every file.
async fn scan(disk: &mut Disk, count: usize) -> Result<()> {
    let said = convoy_tests::harness::until("a scan", convoy_tests::harness::LIMIT, async || {
        let log = disk.rig.agent.log();
        let line = log.lines().rev().find(|line| line.contains("Scanned all files")).map(str::to_owned);
        Ok(line)
    })
    .await?;
    let took: u64 = said
        .split("took_us=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.trim().parse().ok())
        .with_context(|| said.clone())?;
    let each = took as f64 / (count + 1) as f64;
    println!("first scan of {} files: {:.1} ms, {each:.1} us each", count + 1, took as f64 / 1000.0,);
    disk.agent().kill().await
}
