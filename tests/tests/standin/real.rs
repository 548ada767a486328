//! Real configurations: four fleets' deployment.toml files, each started on a stand-in of its product.

use std::path::{Path, PathBuf};

use sha2::Digest;

use crate::harness::{Bench, status_of};

/// Fleet directory, file name without its number, product.
const NODES: [(&str, &str, &str); 10] = [
    ("a-apim-4.2-tm-separated-ha", "cp", "wso2am-4.2-control-plane"),
    ("a-apim-4.2-tm-separated-ha", "gw", "wso2am-4.2-gateway-worker"),
    ("a-apim-4.2-tm-separated-ha", "tm", "wso2am-4.2-traffic-manager"),
    ("b-apim-3.2-active-active-is-5.10-km", "am", "wso2am-3.2"),
    ("b-apim-3.2-active-active-is-5.10-km", "is", "wso2is-5.10"),
    ("c-apim-4.5-simple-scalable-is-7.1-km", "aio", "wso2am-4.5"),
    ("c-apim-4.5-simple-scalable-is-7.1-km", "gw", "wso2am-universal-gw-4.5"),
    ("c-apim-4.5-simple-scalable-is-7.1-km", "is", "wso2is-7.1"),
    ("d-apim-3.1-single-is-km-5.10", "am", "wso2am-3.1"),
    ("d-apim-3.1-single-is-km-5.10", "is-km", "wso2is-km-5.10"),
];

#[tokio::test]
async fn every_node_of_the_real_fleets_starts() {
    let fleets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wso2/fleets");
    if !fleets.is_dir() {
        println!("skipped: no fleets at {}", fleets.display());
        return;
    }
    let mut started = 0;
    for (fleet, node, product) in NODES {
        let files: Vec<PathBuf> = (1..=2)
            .map(|number| fleets.join(fleet).join(format!("{node}-{number}.toml")))
            .chain([fleets.join(fleet).join(format!("{node}.toml"))])
            .filter(|path| path.is_file())
            .collect();
        assert!(!files.is_empty(), "{fleet}/{node}");
        for file in files {
            start(product, &std::fs::read_to_string(&file).expect("a file")).await;
            started += 1;
        }
    }
    assert_eq!(started, 19);
}

async fn start(product: &str, text: &str) {
    let bench = Bench::new(product);
    bench.write("repository/conf/deployment.toml", text);
    // These files are for machines of their own; here an offset keeps the ports apart.
    let offset = format!("-DportOffset={}", bench.port(0));
    let profile = product.strip_prefix("wso2am-4.2-").map(|profile| format!("-Dprofile={profile}"));
    let arguments: Vec<&str> = [Some(offset.as_str()), profile.as_deref()].into_iter().flatten().collect();
    let script = bench.start(&arguments);
    bench.until_logged("WSO2 Carbon started in").await;
    let digest: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bench.state().await.toml_digest, digest);
    assert!(!bench.log().contains("ERROR"), "{product}: {}", bench.log());
    bench.terminate(bench.pid());
    assert_eq!(status_of(script).await, Some(0));
}
