//! What independent zstd frames of each size cost in ratio, and what reading a part then costs.
//!
//! ```sh
//! cargo run --release -p benches --bin frame-size [TREE [LEVEL]]
//! ```
//!
//! The archive of the tree (`/usr/lib` unless told otherwise) is compressed at the level (Nix's 3)
//! with frames of each size, and as one frame; a reader of 10 KB has to fetch one or two frames.
//! The program prints how many bytes that is on average.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::nar::pack;

/// Counts, and forgets.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let tree = arguments.first().map_or("/usr/lib", String::as_str);
    let level = arguments.get(1).map_or(3, |level| level.parse().expect("a level"));
    let options = EncodeOptions::new(Compression::Zstd).with(|options| options.level = Some(level));
    // 0 is one frame, on one thread: others would cut it into blocks.
    let compressed = |frame_size: u32| {
        let options = options.with(|options| {
            options.frame_size = frame_size;
            options.threads = NonZeroUsize::MIN.saturating_add(usize::from(frame_size > 0));
        });
        let mut encoder = Compressor::new(Counter::default(), &options).expect("zstd");
        let size = pack(tree, &mut encoder).expect("a tree");
        (size, encoder.finish().expect("nothing is written").0)
    };
    let (size, whole) = compressed(0);
    println!(
        "{tree}, {size} bytes, zstd:{level}, {whole} bytes in one frame\n\n| frames of | larger by | to read 10 KB |\n|---|---|---|"
    );
    for shift in 17..=24 {
        let (_, framed) = compressed(1 << shift);
        let frame = u64::from(1_u32 << shift) * framed / size;
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let more = (framed as f64 / whole as f64 - 1.0) * 100.0;
        println!("| {} KiB | {more:.2} % | {} KiB |", 1 << (shift - 10), frame.div_ceil(1024));
    }
}
