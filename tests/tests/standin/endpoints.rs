//! Ports and answers, over TLS where the product speaks TLS.

use crate::harness::Bench;

const HEALTH: &str = "/api/health-check/v1.0/health";
const OPENID: &str = "/oauth2/token/.well-known/openid-configuration";
const STARTUP: &str = "/api/am/gateway/v2/server-startup-healthcheck";

#[tokio::test]
async fn identity_server_answers_openid_but_knows_nothing_of_its_health() {
    let bench = Bench::new("wso2is-7.2");
    let _script = bench.start_ready().await;
    let https = bench.port(9443);
    let (status, body) = bench.get_tls(https, OPENID).await.expect("listening");
    assert_eq!(status, 200);
    assert!(body.contains(&format!("https://localhost:{https}/oauth2/token")), "{body}");
    assert_eq!(bench.get_tls(https, HEALTH).await, Some((200, r#"{"health":[]}"#.to_owned())));
    assert_eq!(bench.get_tls(https, "/services/Version").await.map(|answer| answer.0), Some(404));
    assert_eq!(bench.get_tls(https, "/carbon/").await.map(|answer| answer.0), Some(302));
}

#[tokio::test]
async fn the_health_api_speaks_once_it_is_enabled() {
    let bench = Bench::new("wso2is-7.2");
    bench.append_toml("[carbon_health_check]\nenable = true");
    let _script = bench.start_ready().await;
    let (status, body) = bench.get_tls(bench.port(9443), HEALTH).await.expect("listening");
    assert!(status == 200 && body.contains("\"key\""), "{status} {body}");
}

#[tokio::test]
async fn api_manager_listens_on_all_ports_of_its_role() {
    let bench = Bench::new("wso2am-4.5");
    let _script = bench.start_ready().await;
    for port in bench.pack.product.ports() {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", bench.port(port.number))).await;
        assert!(stream.is_ok(), "{}", port.number);
    }
    for port in [9443, 8243] {
        let (status, body) = bench.get_tls(bench.port(port), "/services/Version").await.expect("listening");
        assert!(status == 200 && body.contains("<return>WSO2 API Manager-4.5.0</return>"), "{port}: {body}");
    }
    for port in [9763, 8280] {
        assert_eq!(bench.get(bench.port(port), "/services/Version").await.map(|answer| answer.0), Some(200));
    }
    assert_eq!(bench.get(bench.port(9099), "/health").await.map(|answer| answer.0), Some(200));
    assert_eq!(bench.get_tls(bench.port(8099), "/health").await.map(|answer| answer.0), Some(200));
}

#[tokio::test]
async fn a_profile_opens_only_its_own_ports() {
    let cases = [
        ("wso2am-4.2", "gateway-worker", [8243, 9443], [5672, 9611]),
        ("wso2am-4.2", "traffic-manager", [5672, 9443], [8243, 9099]),
        ("wso2am-3.2", "api-publisher", [9443, 9763], [5672, 8243]),
    ];
    for (product, profile, open, closed) in cases {
        let bench = Bench::new(product);
        let _script = bench.start(&[&format!("-Dprofile={profile}")]);
        bench.until_logged("WSO2 Carbon started in").await;
        for (ports, is_open) in [(open, true), (closed, false)] {
            for port in ports {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", bench.port(port))).await;
                assert_eq!(stream.is_ok(), is_open, "{product} {profile} {port}");
            }
        }
    }
}

#[tokio::test]
async fn a_gateway_is_500_until_everything_is_deployed() {
    let bench = Bench::new("wso2am-universal-gw-4.6");
    bench.write("standin.toml", "gateway_ready_after = \"1h\"\n");
    let _script = bench.start_ready().await;
    let https = bench.port(9443);
    assert_eq!(bench.get_tls(https, STARTUP).await.map(|answer| answer.0), Some(500));
    bench.write("standin.toml", "gateway_ready_after = \"0ms\"\n");
    assert_eq!(bench.get_tls(https, STARTUP).await.map(|answer| answer.0), Some(200));
    assert!(bench.get(bench.port(5672), "/").await.is_none(), "a gateway has no broker");
}

#[tokio::test]
async fn the_state_tells_launches_and_the_configuration_in_use() {
    use sha2::Digest;

    let bench = Bench::new("wso2is-7.2");
    let _script = bench.start_ready().await;
    let state = bench.state().await;
    let digest = sha2::Sha256::digest(bench.read("repository/conf/deployment.toml").as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(state.toml_digest, hex);
    assert_eq!((state.launches, state.offset), (1, bench.port(0)));
    assert_eq!(i32::try_from(state.pid).ok(), Some(bench.pid()));
    // What is written later counts from the next start on.
    bench.append_toml("# later");
    assert_eq!(bench.state().await.toml_digest, hex);
}
