//! A host with a certificate of another authority joins by it, and comes back by it after its own has ended.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Agent, FleetDir, LIMIT, Site, until};
use fleet::admission::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::small::ensure_holds;

/// The host's certificate and key, and the authority above.
fn certificate(names: &[&str]) -> Result<(String, String, String)> {
    let (key, own) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::from_ca_cert_der(authority.der(), key)?;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let host = params.signed_by(&own, &issuer)?;
    Ok((host.pem(), own.serialize_pem(), authority.pem()))
}

/// A fleet of one node, whose host the certificate names.
fn declare(site: &Site, home: &Path) -> Result<FleetDir> {
    let fleet = FleetDir::create(&site.path("fleet"))?;
    fleet.write(
        "fleet.toml",
        format!(
            "name = \"small\"\n[groups.km]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
             [nodes.is-1]\ngroup = \"km\"\nhost = \"h1.test\"\nhome = {home:?}\noffset = {}\n",
            site.offset(0)
        ),
    )?;
    fleet.write("config/common.toml", "[server]\nhostname = \"h1.test\"\n")?;
    Ok(fleet)
}

#[tokio::test]
async fn a_host_joins_by_its_own_certificate_and_comes_back_by_it() -> Result<()> {
    let mut site = Site::open("small").await?;
    let (certificate, key, authority) = certificate(&["h1.test"])?;
    for (name, text) in [("host.pem", certificate), ("host.key", key), ("corp.pem", authority)] {
        fs::write(site.path(name), text)?;
    }
    site.coordinator.kill().await?;
    let corp = site.path("corp.pem");
    site.coordinator
        .add_settings(&format!("\n[certificates]\nnode = \"10s\"\n\n[join.pki]\nauthorities = {corp:?}\n"))?;
    site.coordinator.restart().await?;
    let pack = site.pack("is-1", "wso2is-7.2".parse()?)?;
    let operator = site.operator();
    let fleet = declare(&site, &pack.home)?;
    operator.done(["apply", &fleet.path().display().to_string(), "--yes", "--reason", "first"]).await?;

    let pem = fs::read(site.path("coordinator/data/ca/ca.pem"))?;
    let pin = Fingerprint::of(&CertificateDer::from_pem_slice(&pem)?).to_string();
    let context = fs::read_to_string(operator.context())?;
    let address = context.lines().find_map(|line| line.strip_prefix("address = ")).context("an address")?;
    let address = address.trim_matches(['"', '\'']).to_owned();
    let (cert, key) =
        (site.path("host.pem").display().to_string(), site.path("host.key").display().to_string());
    let words = |pin: &str, cert: &str, key: &str| -> Vec<String> {
        ["--pki", "--cert", cert, "--key", key, "--ca-pin", pin, "--coordinator", &address]
            .map(str::to_owned)
            .to_vec()
    };
    let mut agent =
        Agent::configure(site.programs(), &site.path("agent"), "is-1", &pack.home, &pack.java_home)?;
    let enrol = async |agent: &Agent, words: Vec<String>| {
        agent.enrol_by(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    // Wrong at 3 a.m.
    for (words, said) in [
        (words(&format!("sha256:{}", "00".repeat(32)), &cert, &key), "is --ca-pin its authority?"),
        (words("rubbish", &cert, &key), "--ca-pin: a fingerprint is"),
        (words(&pin, "/no/such/file", &key), "cannot read /no/such/file"),
        (words(&pin, &key, &key), "holds no certificate"),
        (words(&pin, &corp.display().to_string(), &key), "is not the one of the certificate in"),
    ] {
        let (code, told) = enrol(&agent, words).await?;
        ensure!(code == 1 && told.contains(said), "{code}: {told}");
    }
    let (code, said) = enrol(&agent, words(&pin, &cert, &key)).await?;
    ensure!(code == 0 && said.contains("enrolled as is-1 at 127.0.0.1:"), "{code}: {said}");
    let (code, said) = enrol(&agent, words(&pin, &cert, &key)).await?;
    ensure!(code == 1 && said.contains("is-1 joined "), "{code}: {said}");
    let recorded = operator.done(["audit", "list", "--action", "join"]).await?;
    ensure_holds(&recorded, &["coordinator", "is-1", "serial"])?;

    agent.start()?;
    let connected = async |what: &str| {
        until(what, LIMIT, async || {
            let shown = operator.json(["status"]).await?;
            Ok((shown["nodes"][0]["connected"] == true).then_some(()))
        })
        .await
    };
    connected("the agent to be connected").await?;
    // Away until its certificate has ended.
    agent.kill().await?;
    let said = until("the certificate to end", LIMIT, async || {
        let (code, said) = enrol(&agent, words(&pin, &cert, &key)).await?;
        Ok((code == 0).then_some(said))
    })
    .await?;
    ensure_holds(&said, &["enrolled as is-1"])?;
    agent.start()?;
    connected("the agent to be back").await?;
    agent.kill().await?;
    Ok(())
}
