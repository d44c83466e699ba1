//! An archive says the same however it is cut into chunks, and contents are never copied.

use std::convert::Infallible;
use std::io::BufReader;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use conformance::{any_tree, for_all};
use futures_core::Stream;
use nixcache::nar::{Decoder, Event, EventStream, Events, Reader};
use proptest::collection::vec;
use proptest::prelude::*;

/// What an archive says, with the parts of each file's contents joined.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said(Vec<Event<Vec<u8>, Vec<u8>>>);

impl Said {
    fn push<N: AsRef<[u8]>, C: AsRef<[u8]>>(&mut self, event: Event<N, C>) {
        let event = event.map(|name| name.as_ref().to_vec(), |contents| contents.as_ref().to_vec());
        match (event, self.0.last_mut()) {
            (Event::Contents(part), Some(Event::Contents(contents))) => contents.extend(part),
            (event, _) => self.0.push(event),
        }
    }

    fn of(nar: &[u8]) -> Self {
        let mut said = Self::default();
        for event in Events::new(nar) {
            said.push(event.unwrap());
        }
        said
    }
}

/// Cuts `bytes` into pieces of these lengths, over and over; some may be empty.
fn cut(mut bytes: &[u8], lengths: &[usize]) -> Vec<Bytes> {
    let mut chunks = Vec::new();
    let whole = Bytes::copy_from_slice(bytes);
    for &len in lengths.iter().chain(&[1]).cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at(len.min(bytes.len()));
        let at = whole.len() - bytes.len();
        chunks.push(whole.slice(at..at + chunk.len()));
        bytes = rest;
    }
    chunks
}

fn any_lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(0..=9_usize, 0..5), vec(0..=200_usize, 1..9), vec(1000..=100_000_usize, 1..3)]
}

/// A stream that is not always ready.
struct Chunks {
    chunks: std::vec::IntoIter<Bytes>,
    ready: bool,
}

impl Stream for Chunks {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready = !self.ready;
        if self.ready {
            return Poll::Ready(self.chunks.next().map(Ok));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn next<S: Stream>(stream: &mut Pin<&mut S>) -> Option<S::Item> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(item) = stream.as_mut().poll_next(&mut context) {
            return item;
        }
    }
}

/// Whether `part` lies inside `whole` in memory, so that it is no copy.
fn is_part(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

#[test]
fn every_reader_says_the_same_however_the_archive_is_cut() {
    const AFTER: &[u8] = b"what follows";
    for_all(256, (any_tree(), any_lengths()), |(tree, lengths)| {
        let nar = tree.to_nar();
        let expected = Said::of(&nar);
        let input = [nar.as_slice(), AFTER].concat();

        let (mut borrowed, mut shared) = (Said::default(), Said::default());
        let (mut first, mut second) = (Decoder::new(), Decoder::new());
        let mut after = Vec::new();
        for chunk in cut(&input, &lengths) {
            let mut rest = &chunk[..];
            while let Some(event) = first.next(&mut rest).unwrap() {
                if let Event::Contents(part) = event {
                    prop_assert!(!part.is_empty() && is_part(part, &chunk));
                }
                borrowed.push(event);
            }
            prop_assert!(first.is_done() || rest.is_empty());
            after.extend_from_slice(rest);

            let mut rest = chunk.clone();
            while let Some(event) = second.next(&mut rest).unwrap() {
                if let Event::Contents(part) = &event {
                    prop_assert!(!part.is_empty() && is_part(part, &chunk));
                }
                shared.push(event);
            }
        }
        first.finish().unwrap();
        second.finish().unwrap();
        prop_assert_eq!(&borrowed, &expected);
        prop_assert_eq!(&shared, &expected);
        prop_assert_eq!(after, AFTER);
        prop_assert_eq!(first.offset(), nar.len() as u64);

        let mut said = Said::default();
        let capacity = lengths.first().map_or(1, |&len| len.max(1));
        let mut reader = Reader::new(BufReader::with_capacity(capacity, input.as_slice()));
        while let Some(event) = reader.next().unwrap() {
            said.push(event);
        }
        prop_assert_eq!(&said, &expected);

        let mut said = Said::default();
        let mut stream = pin!(EventStream::new(Chunks { chunks: cut(&input, &lengths).into_iter(), ready: true }));
        while let Some(event) = next(&mut stream) {
            said.push(event.unwrap());
        }
        prop_assert!(next(&mut stream).is_none());
        prop_assert_eq!(&said, &expected);
        prop_assert_eq!(stream.offset(), nar.len() as u64);
        prop_assert!(AFTER.starts_with(stream.rest()));
        Ok(())
    });
}

#[test]
fn an_archive_that_ends_early_is_an_error_at_its_end_however_it_is_cut() {
    for_all(256, (any_tree(), any_lengths(), any::<proptest::sample::Index>()), |(tree, lengths, end)| {
        let nar = tree.to_nar();
        let nar = &nar[..end.index(nar.len())];
        let expected = Events::new(nar).find_map(Result::err).unwrap();
        prop_assert_eq!(expected.offset(), nar.len() as u64);

        let mut decoder = Decoder::new();
        for mut chunk in cut(nar, &lengths) {
            while decoder.next(&mut chunk).unwrap().is_some() {}
        }
        prop_assert_eq!(decoder.finish().unwrap_err().offset(), nar.len() as u64);

        let mut stream = pin!(EventStream::new(Chunks { chunks: cut(nar, &lengths).into_iter(), ready: true }));
        let error = loop {
            match next(&mut stream).unwrap() {
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        prop_assert!(error.starts_with(&format!("at byte {}: the input ends", nar.len())), "{}", error);
        prop_assert!(next(&mut stream).is_none());
        Ok(())
    });
}
