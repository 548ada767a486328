//! Compiles the .proto files without protoc and keeps the descriptor set for gRPC reflection.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let files =
        ["agent.proto", "bundle.proto", "call.proto", "journal.proto", "operator.proto", "store.proto"];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("convoy.fds"), descriptors.encode_to_vec())?;
    // Ordered maps: equal values encode to equal bytes, which the store's compare-and-swap relies on.
    // Values of secrets and contents and logs of hosts have no form for logs.
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".convoy.agent.v1.Chunk")
        .codec_path("crate::codec::SmallBuffers")
        .skip_debug([
            ".convoy.operator.v1.SetSecretRequest",
            ".convoy.call.v1.Credential",
            ".convoy.agent.v1.HostAnswer",
            ".convoy.agent.v1.HostChunk",
            ".convoy.agent.v1.LogAnswer",
            ".convoy.operator.v1.LogLines",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
