//! Where hooks reach the agent of an NGINX: a unix socket that speaks as much of HAProxy's runtime language as hooks
//! need, `set server` and `show stat`, so that hooks have one language for both programs and a socket is forwarded from
//! another host in one way.
//!
//! Whoever may open it may take members out: the agent's own user, and the group of `socket_group`.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    Balancer,
    members::{Member, Refusal, Standing, Wish},
};
use crate::{platform, task};

/// Bytes of a command.
const COMMAND_MAX: u64 = 1024;
/// For a command to arrive, and for its answer to be taken.
const IO_TIME: Duration = Duration::from_secs(10);
/// Before a socket that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(10);
/// Visitors at once; one more is sent away.
const VISITORS_MAX: usize = 32;

/// Answers hooks for as long as the agent runs.
pub(super) async fn serve(balancer: Balancer, path: &Path) -> Result<(), String> {
    let visitors = Arc::new(Semaphore::new(VISITORS_MAX));
    let mut told = None;
    loop {
        let listener = match open(path, balancer.0.socket_group.as_deref()) {
            Ok(listener) => listener,
            Err(why) => {
                // Once as long as it fails alike; `convoy-agent doctor` says it as well.
                if told.as_ref() != Some(&why) {
                    warn!(path = %path.display(), why, "Hooks cannot reach this agent; it tries again");
                }
                told = Some(why);
                tokio::time::sleep(OPEN_AGAIN).await;
                continue;
            }
        };
        info!(path = %path.display(), "Hooks that take members of NGINX out are answered here");
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, for example.
                tokio::time::sleep(OPEN_AGAIN).await;
                continue;
            };
            let Ok(place) = visitors.clone().try_acquire_owned() else { continue };
            let balancer = balancer.clone();
            task::spawn("hook of a member", async move {
                let _place = place;
                if let Err(error) = visit(stream, &balancer).await {
                    info!(%error, "A hook went away before its answer");
                }
            });
        }
    }
}

fn open(path: &Path, group: Option<&str>) -> Result<UnixListener, String> {
    match fs::symlink_metadata(path) {
        // Left by an agent that ended; the lock of the data directory is ours.
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(path).map_err(|error| format!("an old socket cannot be removed: {error}"))?;
        }
        Ok(_) => return Err("something else lies there; name another `socket`".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    let group = match group {
        Some(name) => {
            Some(platform::Names::read().group_of(name).ok_or_else(|| format!("no group {name:?}"))?)
        }
        None => None,
    };
    let listener = UnixListener::bind(path).map_err(|error| {
        format!("{error}; its directory has to be there, as by RuntimeDirectory= of the unit")
    })?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())?;
    if let Some(group) = group {
        chown(path, None, Some(group))
            .map_err(|error| format!("it cannot be given to group {group}: {error}"))?;
    }
    Ok(listener)
}

async fn visit(mut stream: UnixStream, balancer: &Balancer) -> io::Result<()> {
    let mut command = String::new();
    timeout(IO_TIME, BufReader::new((&mut stream).take(COMMAND_MAX)).read_line(&mut command)).await??;
    let answer = answer(command.trim(), balancer).await;
    timeout(IO_TIME, stream.write_all(answer.as_bytes())).await??;
    Ok(())
}

/// An empty line is what HAProxy says when it has done as it was told.
async fn answer(command: &str, balancer: &Balancer) -> String {
    if command.starts_with("show stat") {
        return balancer.standings().map_or_else(|why| format!("{why}\n\n"), |standings| table(&standings));
    }
    let Some((member, wish)) = order(command) else {
        return "Unknown command. This is the agent of an NGINX: it knows `set server UPSTREAM/NODE state drain|ready` \
                and `show stat`.\n\n"
            .to_owned();
    };
    match (balancer.set_member(&member, wish).await, wish) {
        (Ok(()), _) => "\n".to_owned(),
        // As HAProxy says it, which a hook that puts a member back understands.
        (Err(Refusal::NoUpstream(_)), Wish::In) => "No such backend.\n\n".to_owned(),
        (Err(Refusal::NoMember(_)), Wish::In) => "No such server.\n\n".to_owned(),
        (Err(Refusal::NoUpstream(why) | Refusal::NoMember(why)), Wish::Out) => format!("{why}\n\n"),
        (Err(Refusal::Failed(why)), _) => format!("{}\n\n", why.replace('\n', " ")),
    }
}

fn order(command: &str) -> Option<(Member, Wish)> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ["set", "server", name, "state", state] = words[..] else { return None };
    let (upstream, name) = name.split_once('/')?;
    let wish = match state {
        "ready" => Wish::In,
        "drain" | "maint" => Wish::Out,
        _ => return None,
    };
    Some((Member { upstream: upstream.to_owned(), name: name.to_owned() }, wish))
}

/// As `show stat` of HAProxy, with the columns that hooks read. Of sessions it has the old workers that may have some.
fn table(standings: &[Standing]) -> String {
    let mut text = "# pxname,svname,scur,status\n".to_owned();
    for Standing { member, is_out, old_workers } in standings {
        let status = if *is_out { "DRAIN" } else { "no check" };
        let old = old_workers.map_or_else(String::new, |count| count.to_string());
        text.push_str(&format!("{},{},{old},{status}\n", member.upstream, member.name));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_haproxy_reads_them() {
        let member = |wish| Some((Member { upstream: "identity".into(), name: "is-1".into() }, wish));
        for (command, read) in [
            ("set server identity/is-1 state drain", member(Wish::Out)),
            ("set server identity/is-1 state maint", member(Wish::Out)),
            ("set  server identity/is-1 state ready", member(Wish::In)),
            ("set server identity/is-1 state up", None),
            ("set server is-1 state drain", None),
            ("set server identity/is-1 weight 5", None),
            ("", None),
        ] {
            assert_eq!(order(command), read, "{command}");
        }
    }

    #[test]
    fn a_member_that_is_out_drains_until_the_old_workers_have_gone() {
        let standing = |name: &str, is_out, old_workers| Standing {
            member: Member { upstream: "identity".into(), name: name.into() },
            is_out,
            old_workers,
        };
        let told = table(&[
            standing("is-1", true, Some(2)),
            standing("is-2", false, None),
            standing("is-3", true, None),
        ]);
        assert_eq!(
            told,
            "# pxname,svname,scur,status\nidentity,is-1,2,DRAIN\nidentity,is-2,,no check\nidentity,is-3,,DRAIN\n\n"
        );
    }
}
