//! How messages are put on streams.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// With how many bytes the buffer of a stream begins. It grows with the messages. An agent's session lives for weeks and
/// carries small ones; tonic's 8 KiB, for each direction, would be held for each agent.
const BEGIN_WITH: usize = 512;
/// From how many bytes on a stream hands over what it has encoded: tonic's own figure.
const HAND_OVER_AT: usize = 32 * 1024;

/// The codec of all our services: prost's, with small buffers.
#[derive(Debug, Clone)]
pub struct SmallBuffers<T, U> {
    messages: PhantomData<(T, U)>,
}

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self { messages: PhantomData }
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BEGIN_WITH, HAND_OVER_AT))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BEGIN_WITH, HAND_OVER_AT))
    }
}
