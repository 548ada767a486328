//! What `convoy render DIR --balancer NAME` writes is taken by the checkers of HAProxy and NGINX themselves.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{harness::Programs, pack::OffsetLease};

/// Several services on one port, every kind of port, and one without names.
fn fleet(kind: &str, dir: &Path, offset: u16) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let mut text = format!(
        "name = \"acme\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n[groups.am]\nproduct = \
         \"wso2am-4.5\"\nlayers = [\"common\"]\n[nodes.is-1]\ngroup = \"km\"\nhost = \"127.0.0.1\"\nhome = \"/opt/is-1\"\n\
         [nodes.is-2]\ngroup = \"km\"\nhost = \"127.0.0.1\"\nhome = \"/opt/is-2\"\noffset = 2\n[nodes.am-1]\ngroup = \
         \"am\"\nhost = \"127.0.0.1\"\nhome = \"/opt/am\"\noffset = 5\n[balancers.front]\nkind = {kind:?}\n\
         certificate = {:?}\nserver_ca = {:?}\n",
        file("front.pem"),
        file("ca.pem"),
    );
    if kind == "nginx" {
        text += &format!("certificate_key = {:?}\n", file("front.key"));
    } else {
        text += &format!("socket = {:?}\n", file("admin.sock"));
    }
    for (name, group, port, listen, more) in [
        ("identity", "km", "https", 8_443, "hosts = [\"km.acme\", \"login.acme\"]\n"),
        ("portals", "am", "https", 8_443, "hosts = [\"api.acme\"]\ntimeout = \"2m\"\n"),
        ("gateway", "am", "gateway-https", 8_243, ""),
        ("plain", "am", "gateway-http", 8_280, "hosts = [\"gw.acme\"]\nhealth = \"/services/Version\"\n"),
        ("websocket", "am", "ws", 9_099, ""),
        ("secure", "am", "wss", 8_099, "sticky = \"address\"\n"),
    ] {
        let listen = listen + offset;
        text += &format!(
            "[[balancers.front.services]]\nname = {name:?}\ngroup = {group:?}\nport = {port:?}\nlisten = {listen}\n{more}"
        );
    }
    text
}

/// Renders the balancer of such a fleet into a file of `dir`.
fn rendered(kind: &str, dir: &Path, offset: u16) -> Result<std::path::PathBuf> {
    rendered_as(kind, dir, offset, |text| text)
}

/// The same with a change of fleet.toml.
fn rendered_as(
    kind: &str,
    dir: &Path,
    offset: u16,
    change: impl Fn(String) -> String,
) -> Result<std::path::PathBuf> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["km.acme".to_owned()])?.self_signed(&key)?;
    fs::write(dir.join("front.pem"), certificate.pem() + &key.serialize_pem())?;
    fs::write(dir.join("front.key"), key.serialize_pem())?;
    fs::write(dir.join("ca.pem"), certificate.pem())?;
    fs::create_dir_all(dir.join("fleet/config"))?;
    fs::write(dir.join("fleet/fleet.toml"), change(fleet(kind, dir, offset)))?;
    fs::write(dir.join("fleet/config/common.toml"), "[server]\nhostname = \"km.acme\"\n")?;
    let out = dir.join("front.conf");
    let mut convoy = Command::new(Programs::locate()?.convoy);
    convoy.args(["render", "--balancer", "front", "--out"]).arg(&out).arg(dir.join("fleet"));
    let output = convoy.output()?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    Ok(out)
}

/// What the checker says; `None` where it is not installed, which is said.
fn checked(program: &str, args: &[&Path]) -> Result<Option<Output>> {
    match Command::new(program).args(args).output() {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("NOT EXERCISED: a real {program}: {error}");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot run {program}")),
    }
}

#[test]
fn haproxy_takes_what_is_rendered_for_it_and_notices_a_slip() -> Result<()> {
    let (dir, lease) = (tempfile::tempdir()?, OffsetLease::take()?);
    let file = rendered("haproxy", dir.path(), lease.offset(0))?;
    let check = |file: &Path| checked("haproxy", &[Path::new("-c"), Path::new("-f"), file]);
    let Some(output) = check(&file)? else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}\n{}", fs::read_to_string(&file)?);
    ensure!(!said.to_lowercase().contains("warning"), "{said}");
    let slip = fs::read_to_string(&file)?.replace("    balance leastconn", "    balance leastcon");
    fs::write(&file, slip)?;
    let output = check(&file)?.context("it was there before")?;
    ensure!(!output.status.success(), "a slip is taken");
    Ok(())
}

#[test]
fn haproxy_takes_what_a_template_adds_and_a_slip_in_it_is_told_with_its_line() -> Result<()> {
    let (dir, lease) = (tempfile::tempdir()?, OffsetLease::take()?);
    fs::create_dir_all(dir.path().join("fleet/balancers"))?;
    let template = dir.path().join("fleet/balancers/front.cfg.tmpl");
    let stats = format!("\nlisten stats\n    bind 127.0.0.1:{}\n    stats enable\n", 8_404 + lease.offset(0));
    fs::write(&template, format!("{{{{ generated }}}}{stats}"))?;
    let with = |text: String| {
        text.replace("[balancers.front]\n", "[balancers.front]\ntemplate = \"balancers/front.cfg.tmpl\"\n")
    };
    let file = rendered_as("haproxy", dir.path(), lease.offset(0), with)?;
    ensure!(fs::read_to_string(&file)?.ends_with(&stats), "{}", fs::read_to_string(&file)?);
    if let Some(output) = checked("haproxy", &[Path::new("-c"), Path::new("-f"), &file])? {
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(&template, "{{ generated }}\n# {{ servces }}\n")?;
    ensure!(rendered_as("haproxy", dir.path(), lease.offset(0), with).is_err(), "a slip is taken");
    let linted =
        Command::new(Programs::locate()?.convoy).arg("lint").arg(dir.path().join("fleet")).output()?;
    let told = String::from_utf8_lossy(&[&linted.stdout[..], &linted.stderr[..]].concat()).into_owned();
    ensure!(
        told.contains("balancers/front.cfg.tmpl:2:6") && told.contains("servces is not known here"),
        "{told}"
    );
    Ok(())
}

#[test]
fn nginx_takes_what_is_rendered_for_it_and_notices_a_slip() -> Result<()> {
    let (dir, lease) = (tempfile::tempdir()?, OffsetLease::take()?);
    let file = rendered("nginx", dir.path(), lease.offset(0))?;
    let around = dir.path().join("nginx.conf");
    let main = format!(
        "pid {0}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path \
         {0}/body;\n  proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/fastcgi;\n  uwsgi_temp_path {0}/uwsgi;\n  \
         scgi_temp_path {0}/scgi;\n  include {1};\n}}\n",
        dir.path().display(),
        file.display(),
    );
    fs::write(&around, main)?;
    let check = || checked("nginx", &[Path::new("-t"), Path::new("-c"), &around]);
    let Some(output) = check()? else { return Ok(()) };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}\n{}", fs::read_to_string(&file)?);
    ensure!(!said.contains("[warn]"), "{said}");
    let slip = fs::read_to_string(&file)?.replace("proxy_http_version 1.1", "proxy_http_version 3.1");
    fs::write(&file, slip)?;
    let output = check()?.context("it was there before")?;
    ensure!(!output.status.success(), "a slip is taken");
    Ok(())
}
