//! A host whose server and load balancer systemd runs, by the very units, rules and drop-ins that docs/agent.md prints.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{BOOTING, HOME, JAVA, NEW, SUITE, debs, host, said, standin};
use crate::cargo::root;

/// How long a state may take.
const LIMIT: Duration = Duration::from_secs(60);
const SERVER: &str = "systemctl show --property MainPID --value wso2is";
/// A request through the balancer; minimal hosts have no client.
const THROUGH: &str = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/9080
    printf \"GET /api/health-check/v1.0/health HTTP/1.0\\r\\n\\r\\n\" >&3; head -1 <&3' | grep --quiet ' 200 '";

/// Proves what the agent does with units of others.
///
/// # Errors
/// What does not hold.
pub fn prove(places: &Path, packages: &Path) -> Result<()> {
    let made = host::Root::make(places, "units", SUITE, &format!("{BOOTING},haproxy,polkitd"))?;
    for path in debs(packages, NEW)? {
        made.bring(&path, "/root/debs")?;
    }
    standin(&made)?;
    let host = made.boot()?;
    let printed = Printed::read()?;
    installed(&host, &printed)?;
    server_by_unit(&host, &printed)?;
    named_editor(&host, &printed)?;
    balancer_by_unit(&host)
}

/// The code blocks of docs/agent.md.
struct Printed(String);

impl Printed {
    fn read() -> Result<Self> {
        Ok(Self(fs::read_to_string(root().join("docs/agent.md"))?))
    }

    /// The first block with this text in it.
    fn block(&self, with: &str) -> Result<String> {
        let mut blocks = self.0.split("```").skip(1).step_by(2);
        let block = blocks.find(|block| block.contains(with));
        let block = block.with_context(|| format!("docs/agent.md has no block with {with:?}"))?;
        // The first line says in which language it is.
        Ok(block.split_once('\n').map_or(block, |(_, text)| text).to_owned())
    }
}

fn installed(host: &host::Host, printed: &Printed) -> Result<()> {
    // HAProxy leaves out servers whose name nobody resolves, and a minimal host has no such file.
    host.write("/etc/hosts", "127.0.0.1 localhost\n")?;
    host.write("/root/fleet/fleet.toml", include_str!("managed.toml"))?;
    host.write("/root/fleet/config/common.toml", include_str!("common.toml"))?;
    let unit = printed.block("ExecStart=/bin/sh /opt/wso2/wso2is-7.2.0/bin/wso2server.sh")?;
    host.write("/etc/systemd/system/wso2is.service", &unit.replace("/usr/lib/jvm/java-21", "/opt/wso2/jdk"))?;
    let drop_in = printed.block("ReadWritePaths=/etc/haproxy")?;
    host.write("/etc/systemd/system/convoy-edge.service.d/balancer.conf", &drop_in)?;
    let keys = printed.block("balancer = { kind = \"haproxy\"")?;
    let keys = keys.replace("/var/lib/convoy-agent", "/var/lib/convoy-edge");
    host.write("/etc/convoy-edge.toml", &keys)?;
    host.sh(&format!(
        "dpkg --install /root/debs/*.deb
         chown -R wso2carbon:wso2 /opt/wso2
         sed -e 's|/etc/convoy/agent.toml|/etc/convoy-edge.toml|' -e 's|^StateDirectory=.*|StateDirectory=convoy-edge|' \\
             /usr/lib/systemd/system/convoy-agent.service > /etc/systemd/system/convoy-edge.service
         sed -i -e 's|^# homes = .*|homes = [\"{HOME}\"]|' -e 's|^# java_home = .*|java_home = \"/opt/wso2/jdk\"|' \\
             -e 's|^.units.|&\\n\"{HOME}\" = \"wso2is.service\" |' /etc/convoy/agent.toml
         systemctl daemon-reload
         convoy-coordinator setup --fleet acme --name 127.0.0.1
         install -D -m 600 /var/lib/convoy-coordinator/operator/context.toml /root/.config/convoy/context.toml
         umask 077
         convoy token create --node is-1 > /root/is-1 && convoy-agent enroll --token-file /root/is-1
         convoy token create --node lb-1 > /root/lb-1
         convoy-agent --config /etc/convoy-edge.toml enroll --token-file /root/lb-1
         systemctl start convoy-agent convoy-edge"
    ))?;
    said("units", "installed, both agents enrolled");
    Ok(())
}

/// The system's own bus, and polkit before and after its rule.
fn server_by_unit(host: &host::Host, printed: &Printed) -> Result<()> {
    let apply = "convoy apply /root/fleet --group km --wait --yes";
    let refused = host.sh(&format!("! {apply} 2>&1"))?;
    ensure!(refused.contains("may not start wso2is.service: give it leave by the polkit rule"), "{refused}");
    host.write("/etc/polkit-1/rules.d/50-convoy.rules", &printed.block("50-convoy.rules")?)?;
    host.sh("systemctl restart polkit")?;
    host.sh(apply)?;
    host.until("the server", LIMIT, "convoy status | grep --quiet 'is-1 .*ready'")?;
    let first = host.sh(SERVER)?;
    ensure!(!first.is_empty() && first != "0", "systemd does not run the server");
    let of_unit = host.sh(&format!("cat /proc/$({JAVA})/cgroup"))?;
    ensure!(of_unit.contains("wso2is.service"), "the server is not the unit's: {of_unit}");
    host.sh("systemctl restart convoy-agent")?;
    host.until("the agent", LIMIT, "convoy status | grep --quiet 'is-1 .*ready'")?;
    ensure!(host.sh(SERVER)? == first, "the agent's restart touched the server");
    host.sh(&format!("printf '\\n[x]\\ny = 1\\n' >> /root/fleet/config/common.toml && {apply}"))?;
    let second = host.sh(SERVER)?;
    ensure!(second != first && second != "0", "a new configuration: the unit's process is {second}");
    host.sh("convoy node stop is-1 --yes")?;
    host.until("the stop", LIMIT, "! systemctl is-active --quiet wso2is")?;
    host.sh("convoy node start is-1 --yes")?;
    host.until("the start", LIMIT, "convoy status | grep --quiet 'is-1 .*ready'")?;
    said("units", "systemd as first process, system bus, polkit: started, restarted, stopped, started");
    Ok(())
}

/// The drop-in that lets the agent see who edits, for an agent that is not root.
fn named_editor(host: &host::Host, printed: &Printed) -> Result<()> {
    let drop_in = printed.block("AmbientCapabilities=CAP_SYS_ADMIN")?;
    host.write("/etc/systemd/system/convoy-agent.service.d/editors.conf", &drop_in)?;
    let before = host.sh(SERVER)?;
    host.sh("systemctl daemon-reload && systemctl restart convoy-agent")?;
    // Of this start: what `status` says may be of the one before.
    let invocation = "$(systemctl show --property InvocationID --value convoy-agent)";
    let reached = format!("journalctl _SYSTEMD_INVOCATION_ID={invocation} | grep --quiet Reached");
    host.until("the agent", LIMIT, &reached)?;
    ensure!(host.sh(SERVER)? == before, "the drop-in's restart touched the server");
    let file = format!("{HOME}/repository/conf/deployment.toml");
    host.sh(&format!("sed -i s/admin/adm1n/ {file}"))?;
    host.until("the edit's undoing", LIMIT, &format!("! grep --quiet adm1n {file}"))?;
    let who = "convoy drift list | grep 'root (sed)'";
    host.until("the name of who edited", LIMIT, who)?;
    said("units", "who edited, by an agent that is not root: root (sed)");
    Ok(())
}

/// Debian's HAProxy by its unit: reloaded, put back, started again.
fn balancer_by_unit(host: &host::Host) -> Result<()> {
    let master = "systemctl show --property MainPID --value haproxy";
    let workers = format!("cat /proc/$({master})/task/*/children");
    let (before, old) = (host.sh(master)?, host.sh(&workers)?);
    host.sh("convoy apply /root/fleet --wait --yes --replace-unmanaged")?;
    ensure!(host.sh(master)? == before, "it was restarted, not reloaded");
    ensure!(host.sh(&workers)? != old, "there is no new worker");
    host.until("a request through the balancer", LIMIT, THROUGH)?;
    host.sh("echo '# mine' >> /etc/haproxy/haproxy.cfg")?;
    host.until("the edit's undoing", LIMIT, "! grep --quiet '# mine' /etc/haproxy/haproxy.cfg")?;
    ensure!(host.sh(master)? == before, "an edit restarted it");
    host.sh("convoy node stop lb-1 --yes")?;
    host.until("the stop", LIMIT, "! systemctl is-active --quiet haproxy")?;
    host.sh("convoy node start lb-1 --yes")?;
    host.until("the start", LIMIT, "systemctl is-active --quiet haproxy")?;
    host.until("a request through the balancer", LIMIT, THROUGH)?;
    host.sh("systemctl kill --signal KILL --kill-who main haproxy")?;
    host.until("the balancer after its death", LIMIT, THROUGH)?;
    said(
        "units",
        "HAProxy by its unit: reloaded by its master, put back, stopped, started, up again after a kill",
    );
    Ok(())
}
