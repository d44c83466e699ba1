//! Reading registrations.

use std::io::BufRead;

use super::lines::Lines;
use super::{Error, RegistrationField};
use crate::path_info::{Agreement, Heard, PathInfo};
use crate::store_path::{StoreDir, StorePath};

/// Reads a registration, record by record, as an iterator.
///
/// A path with several equal records comes once; contradicting records are an error. To tell them
/// apart, the reader keeps an [`Agreement`], a few bytes a path. Its other memory depends only on
/// the largest record, and never on a number that the text merely claims. After an error the
/// iterator ends.
#[derive(Debug)]
pub struct RegistrationReader<R> {
    lines: Lines<R>,
    store_dir: StoreDir,
    agreement: Agreement,
    is_done: bool,
}

impl<R: BufRead> RegistrationReader<R> {
    /// Reads paths in `store_dir`.
    pub fn new(source: R, store_dir: &StoreDir) -> Self {
        Self {
            lines: Lines::new(source, store_dir),
            store_dir: store_dir.clone(),
            agreement: Agreement::default(),
            is_done: false,
        }
    }

    /// Reads the next path that was not read before.
    fn read(&mut self) -> Result<Option<PathInfo>, Error> {
        loop {
            let Some(first) = self.lines.next(RegistrationField::Path)? else { return Ok(None) };
            let (line, path) = (first.number, first.path(&self.store_dir)?);
            let info = self.record(path)?;
            match self.agreement.hear(&info) {
                Heard::New => return Ok(Some(info)),
                Heard::Again => {}
                Heard::Otherwise => {
                    let path = self.store_dir.display(info.path.as_ref()).to_string();
                    return Err(Error::Disagreement { line, path });
                }
            }
        }
    }

    /// Reads the record after its path.
    fn record(&mut self, path: StorePath) -> Result<PathInfo, Error> {
        let nar_hash = self.lines.expect(RegistrationField::NarHash)?.hash()?;
        let nar_size = self.lines.expect(RegistrationField::NarSize)?.value()?;
        let deriver = self.lines.expect(RegistrationField::Deriver)?;
        let deriver = if deriver.text.is_empty() { None } else { Some(deriver.path(&self.store_dir)?) };
        let count = self.lines.expect(RegistrationField::ReferenceCount)?.value()?;
        // Without that capacity: the count is a mere claim.
        let mut references: Vec<StorePath> = Vec::new();
        for number in 1..=count {
            references.push(self.lines.expect(RegistrationField::Reference { number, count })?.path(&self.store_dir)?);
        }
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.deriver = deriver;
        info.references = references.into_iter().collect();
        Ok(info)
    }
}

impl<R: BufRead> Iterator for RegistrationReader<R> {
    type Item = Result<PathInfo, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
