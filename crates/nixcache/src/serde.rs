//! Serialising and deserialising of values as their texts.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde_core::de::{Deserialize, Deserializer, Error, Visitor};
use serde_core::ser::{Serialize, Serializer};

use crate::compression::Compression;
use crate::hash::{Algorithm, Hash};
#[cfg(feature = "signature")]
use crate::signature::PublicKey;
use crate::signature::{KeyName, Signature};
use crate::store_path::{ContentAddress, HashPart, StoreDir, StorePath, StorePathRef};

/// Accepts the text of a value. The field says in messages what was expected.
struct TextVisitor<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($type:ty = $expected:literal;)+) => {
        $(
            /// As its text.
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            /// From its text.
            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    deserializer.deserialize_str(TextVisitor($expected, PhantomData))
                }
            }
        )+
    };
}

as_text! {
    Algorithm = "the name of a hash algorithm";
    Compression = "the name of a compression";
    ContentAddress = "a content address";
    Hash = "a hash with the name of its algorithm";
    HashPart = "the hash part of a store path";
    KeyName = "the name of a key";
    Signature = "a signature, `name:base64`";
    StoreDir = "a store directory";
    StorePath = "the base name of a store path";
}

#[cfg(feature = "signature")]
as_text! {
    PublicKey = "a public key, `name:base64`";
}

/// As its text.
impl Serialize for StorePathRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
