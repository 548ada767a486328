//! What is lost is never replaced silently, and there is a tested way on from each loss.

use std::{fs, process::Output, sync::Arc};

use fleet::ids::FleetEpoch;
use proto::wire::operator::{EventsRequest, StatusRequest, operator_client::OperatorClient};
use tempfile::TempDir;

use crate::support::{PATIENCE, ScriptedAgent, TestCoordinator, config_text, small_fleet};

/// The real program, as an operator runs it.
fn program(dir: &TempDir, arguments: &[&str]) -> Output {
    let config = dir.path().join("coordinator.toml");
    fs::write(&config, config_text(dir, "[log]\nlevel = \"warn\"\n")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_convoy-coordinator"));
    command.arg("--config").arg(&config).args(arguments).output().unwrap()
}

fn refused(dir: &TempDir, arguments: &[&str], parts: &[&str]) {
    let output = program(dir, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
}

fn recovers(dir: &TempDir, arguments: &[&str]) -> String {
    let output = program(dir, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

#[tokio::test]
async fn a_lost_store_is_refused_and_a_new_one_is_obeyed() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("a.example"), None).await;
    let node = coordinator.join("is-1").await;
    let epoch = node.epoch(&coordinator).await;
    let store = coordinator.data("store.redb");
    let dir = coordinator.stop().await;
    // A store of 0 bytes would be an empty fleet, and so would none.
    fs::write(&store, b"").unwrap();
    refused(&dir, &[], &["store.redb", "missing or empty", "recover new-store"]);
    fs::remove_file(&store).unwrap();
    refused(&dir, &[], &["store.redb", "missing or empty", "recover new-store"]);
    assert!(!store.exists(), "nothing was made in passing");

    let said = recovers(&dir, &["recover", "new-store"]);
    assert!(said.contains("enrol every node again"), "{said}");
    refused(&dir, &["recover", "new-store"], &["store.redb is there"]);
    let coordinator = TestCoordinator::start_in(dir, "").await;
    coordinator.apply(&small_fleet("a.example"), None).await;
    // The lost store knew its certificate, the new one does not; its agent obeys after it has joined again.
    let mut stale = node.session(&coordinator).await.unwrap();
    assert!(stale.next().await.unwrap_err().message().contains("enrol again"));
    let again = coordinator.join("is-1").await;
    assert_eq!(again.epoch(&coordinator).await, epoch);
    coordinator.stop().await;
}

#[tokio::test]
async fn an_epoch_that_only_the_agents_know_can_be_given() {
    let coordinator = TestCoordinator::start().await;
    let (store, witness) = (coordinator.data("store.redb"), coordinator.data("witness.toml"));
    let dir = coordinator.stop().await;
    fs::remove_file(&store).unwrap();
    fs::remove_file(&witness).unwrap();
    refused(&dir, &["recover", "new-store"], &["--epoch HEX"]);
    let epoch = FleetEpoch([0xa7; 16]);
    recovers(&dir, &["recover", "new-store", "--epoch", &epoch.to_string()]);
    let coordinator = TestCoordinator::start_in(dir, "").await;
    assert_eq!(coordinator.join("is-1").await.epoch(&coordinator).await, epoch.0);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_lost_authority_is_refused_and_a_new_one_voids_everything_of_the_old() {
    let coordinator = TestCoordinator::start().await;
    coordinator.join("is-1").await;
    let token = coordinator.token("is-2", 600).await.secret.to_hex();
    let (authority, kept) = (coordinator.data("ca/authority.pem"), coordinator.data("kept.pem"));
    let before = coordinator.context();
    let dir = coordinator.stop().await;
    refused(&dir, &["recover", "new-authority"], &["authority.pem is there"]);
    fs::rename(&authority, &kept).unwrap();
    refused(&dir, &[], &["authority.pem is missing", "recover new-authority"]);
    assert!(!authority.exists(), "no authority was made in passing");

    let said = recovers(&dir, &["recover", "new-authority"]);
    assert!(said.contains("1 had joined"), "{said}");
    let coordinator = TestCoordinator::start_in(dir, "").await;
    assert_ne!(coordinator.context().authority_pem, before.authority_pem);
    let old = Some((before.certificate_pem.as_str(), before.key_pem.as_str()));
    // With TLS 1.3 a refused certificate shows up at the first call.
    let called = match coordinator.channel(old).await {
        Ok(channel) => OperatorClient::new(channel).status(StatusRequest {}).await.is_ok(),
        Err(_) => false,
    };
    assert!(!called, "an operator of the lost authority is nobody");
    assert!(coordinator.enroll("is-2", &token).await.is_err(), "a token of before is void");
    coordinator.join("is-1").await;
    let dir = coordinator.stop().await;
    // The old key is not taken back either: the store is bound to the new one.
    fs::rename(&kept, &authority).unwrap();
    refused(&dir, &[], &["trust the authority with the SHA-256"]);
}

#[tokio::test]
async fn the_store_alone_shows_no_content_and_a_lost_key_is_refused() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("canary-7c1b.example"), None).await;
    let (store, key) = (coordinator.data("store.redb"), coordinator.data("secrets.key"));
    let dir = coordinator.stop().await;
    let bytes = fs::read(&store).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"canary-7c1b"), "the store shows what was applied");
    let lost = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    refused(&dir, &[], &["secrets.key is missing", "recover new-key"]);
    assert!(!key.exists(), "no key was made in passing");
    fs::write(&key, [7; 32]).unwrap();
    refused(&dir, &[], &["is not the key"]);
    refused(&dir, &["recover", "new-key"], &["secrets.key is there"]);

    fs::remove_file(&key).unwrap();
    recovers(&dir, &["recover", "new-key"]);
    let coordinator = TestCoordinator::start_in(dir, "").await;
    assert_ne!(fs::read(&key).unwrap(), lost);
    // The same directory again brings back what agents are given.
    coordinator.apply(&small_fleet("canary-7c1b.example"), None).await;
    let node = coordinator.join("is-1").await;
    let mut agent = ScriptedAgent::start(&coordinator, &node).await;
    tokio::time::timeout(PATIENCE, agent.assigned.changed()).await.unwrap().unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restored_store_is_noticed_and_brings_no_revoked_thing_back() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("a.example"), None).await;
    let removed = coordinator.join("old-1").await;
    let replaced = coordinator.join("is-1").await;
    let used = coordinator.token("is-2", 600).await.secret.to_hex();
    let unused = coordinator.token("is-3", 600).await.secret.to_hex();
    let store = coordinator.data("store.redb");
    let dir = coordinator.stop().await;
    let copy = fs::read(&store).unwrap();

    let coordinator = TestCoordinator::start_in(dir, "").await;
    coordinator.enroll("is-2", &used).await.unwrap();
    coordinator.join("is-1").await;
    coordinator.forget("old-1").await;
    let dir: Arc<TempDir> = coordinator.stop().await;
    fs::write(&store, &copy).unwrap();
    refused(&dir, &[], &["older than the one", "recover restored-store"]);

    let said = recovers(&dir, &["recover", "restored-store"]);
    assert!(said.contains("2 certificates stay revoked"), "{said}");
    let coordinator = TestCoordinator::start_in(dir, "").await;
    for certificate in [&removed, &replaced] {
        let mut session = certificate.session(&coordinator).await.unwrap();
        let refused = session.next().await.unwrap_err();
        assert!(refused.message().contains("replaced by a later enrolment"), "{refused}");
    }
    for token in [used, unused] {
        assert!(coordinator.enroll("is-2", &token).await.is_err());
        assert!(coordinator.enroll("is-3", &token).await.is_err());
    }
    assert!(coordinator.events(EventsRequest::default()).await.iter().any(|event| event.kind == "recovered"));
    coordinator.stop().await;
}
