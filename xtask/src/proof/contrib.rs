//! What lies in `contrib/`, by the tools that it is for: Ansible's role and Puppet's module on a host with systemd, the
//! user data by cloud-init's own schema, the manifests by Kubernetes' own.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};

use super::{BOOTING, NEW, SUITE, debs, host::Root, said, standin, write_fleet};
use crate::cargo::{root, run};

const TOOLS: &str = "ansible-core,python3-apt,puppet-agent,cloud-init";
/// From the package manager of Python; it brings the schemas.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
const READY: &str = "convoy status | grep --quiet 'all 1 node ready'";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Proves it with the packages that lie in `packages`.
///
/// # Errors
/// What does not hold.
pub fn prove(places: &Path, packages: &Path) -> Result<()> {
    manifests(places)?;
    let made = Root::make(places, "contrib", SUITE, &format!("{BOOTING},{TOOLS}"))?;
    for path in debs(packages, NEW)? {
        made.bring(&path, "/root/debs")?;
    }
    standin(&made)?;
    for directory in ["ansible/roles", "puppet", "cloud-init"] {
        let to = made.path("root/contrib").join(directory);
        std::fs::create_dir_all(to.parent().unwrap_or(&to))?;
        run(
            "contrib",
            Command::new("cp").arg("--recursive").arg(root().join("contrib").join(directory)).arg(to),
        )?;
    }
    let host = made.boot()?;
    write_fleet(&host)?;
    host.sh("dpkg --install /root/debs/convoy_*.deb /root/debs/convoy-coordinator_*.deb")?;
    host.sh("convoy-coordinator setup --fleet acme --name 127.0.0.1")?;
    host.sh("install -D -m 600 /var/lib/convoy-coordinator/operator/context.toml /root/.config/convoy/context.toml")?;
    // A node has to be of the fleet before there is a token for it.
    host.sh("convoy apply /root/fleet --yes")?;

    host.write("/root/contrib/ansible/site.yml", PLAYBOOK)?;
    // As WSO2's own automation leaves a host.
    host.sh("groupadd --system wso2 && useradd --system --gid wso2 wso2carbon && chown -R wso2carbon:wso2 /opt/wso2")?;
    let play = format!(
        "cd /root/contrib/ansible && ansible-playbook --inventory localhost, --connection local \
         --extra-vars convoy_agent_package=$(ls /root/debs/convoy-agent_{NEW}-1_*.deb) \
         --extra-vars \"convoy_agent_token=$(cat /root/token)\" site.yml"
    );
    host.sh("echo convoy-join.v1.rubbish > /root/token")?;
    let refused = host.sh(&format!("({play}) && exit 1; true"))?;
    ensure!(refused.contains("join token") && !refused.contains("v1.rubbish"), "a wrong token: {refused}");
    host.sh("umask 077 && convoy token create --node is-1 > /root/token")?;
    let first = host.sh(&play)?;
    host.until("the agent of the role", READY_WITHIN, READY)?;
    let second = host.sh(&play)?;
    ensure!(second.contains("changed=0"), "a second run changes something: {second}");
    let token = host.sh("cat /root/token")?;
    ensure!(!first.contains(token.trim()) && !second.contains(token.trim()), "the play prints the token");
    said("ansible", "installed, joined; a second run changes nothing");

    host.sh("dpkg --purge convoy-agent && rm --recursive /var/lib/convoy-agent")?;
    host.sh("umask 077 && convoy token create --node is-1 > /root/token")?;
    host.write(
        "/root/contrib/site.pp",
        "class { 'convoy_agent':\n  source     => $facts['deb'],\n  token_file => '/root/token',\n}\n",
    )?;
    let puppet = format!(
        "FACTER_deb=$(ls /root/debs/convoy-agent_{NEW}-1_*.deb) puppet apply --detailed-exitcodes \
         --modulepath /root/contrib/puppet /root/contrib/site.pp"
    );
    host.sh(&format!("{puppet} || test $? = 2"))?;
    host.until("the agent of the module", READY_WITHIN, READY)?;
    host.sh(&puppet)?;
    said("puppet", "installed, joined; a second run changes nothing");

    host.sh("cloud-init schema --config-file /root/contrib/cloud-init/agent.yaml")?;
    said("cloud-init", "the user data is valid; it was not booted with");
    Ok(())
}

const PLAYBOOK: &str = "---
- hosts: all
  roles:
    - convoy_agent
";

/// Each document against the schema of its kind, and the configuration by the coordinator itself.
fn manifests(places: &Path) -> Result<()> {
    let tools = places.join("kubernetes-validate");
    if !tools.join("bin/kubernetes-validate").exists() {
        run("tools", Command::new("python3").args(["-m", "venv"]).arg(&tools))?;
        let mut install = Command::new(tools.join("bin/pip"));
        run("tools", install.args(["install", "--quiet", "--disable-pip-version-check", VALIDATOR]))?;
    }
    let directory = root().join("contrib/kubernetes");
    for file in ["statefulset.yaml", "service.yaml"] {
        let mut validate = Command::new(tools.join("bin/kubernetes-validate"));
        run("kubernetes", validate.arg("--strict").arg(directory.join(file)))?;
    }
    let mut check = Command::new(crate::cargo::target().join("debug/convoy-coordinator"));
    run("kubernetes", check.arg("--config").arg(directory.join("coordinator.toml")).arg("--check-config"))?;
    said("kubernetes", "the manifests are valid; nothing applied them");
    Ok(())
}
