//! The wire: generated messages and services, and the only conversions between them and domain types.
//!
//! Outside this crate the generated module [`wire`] is named only in `coordinator/src/rpc*`, `coordinator/src/store*`
//! records, `agent/src/link*` and `cli/src/client*`; a tidy test greps for it. Store and journal keep the bytes of
//! [`encode`], so what is on disk has a schema.

pub mod codec;
pub mod convert;

/// Generated from `proto/*.proto`.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, missing_docs)]
pub mod wire {
    /// The package tree as the generator expects it: messages of one package name those of another by path.
    pub mod convoy {
        pub mod agent {
            pub mod v1 {
                tonic::include_proto!("convoy.agent.v1");
            }
        }
        pub mod bundle {
            pub mod v1 {
                tonic::include_proto!("convoy.bundle.v1");
            }
        }
        pub mod call {
            pub mod v1 {
                tonic::include_proto!("convoy.call.v1");
            }
        }
        pub mod journal {
            pub mod v1 {
                tonic::include_proto!("convoy.journal.v1");
            }
        }
        pub mod operator {
            pub mod v1 {
                tonic::include_proto!("convoy.operator.v1");
            }
        }
        pub mod store {
            pub mod v1 {
                tonic::include_proto!("convoy.store.v1");
            }
        }
    }
    pub use convoy::{
        agent::v1 as agent, bundle::v1 as bundle, call::v1 as call, journal::v1 as journal,
        operator::v1 as operator, store::v1 as store,
    };
}

/// The encoded `FileDescriptorSet` of every service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/convoy.fds"));
