use std::io::BufRead;

use super::lines::Lines;
use super::{Error, Field};
use crate::path_info::{Agreement, Heard, PathInfo};
use crate::store_path::{StoreDir, StorePath};

/// Reads a registration, record by record.
///
/// A path that has several records comes once, if they say the same; else it is an error. To know,
/// the reader keeps an [`Agreement`], a few bytes a path; beside that its memory depends on the
/// largest record only. The number of references is believed as far as they follow. After an error
/// there is nothing more.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    store_dir: StoreDir,
    agreement: Agreement,
    is_done: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads paths in `store_dir`.
    pub fn new(source: R, store_dir: &StoreDir) -> Self {
        Self {
            lines: Lines::new(source, store_dir),
            store_dir: store_dir.clone(),
            agreement: Agreement::default(),
            is_done: false,
        }
    }

    /// The next path that was not read before.
    fn read(&mut self) -> Result<Option<PathInfo>, Error> {
        loop {
            let Some(first) = self.lines.next(Field::Path)? else { return Ok(None) };
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

    /// What follows a path.
    fn record(&mut self, path: StorePath) -> Result<PathInfo, Error> {
        let nar_hash = self.lines.expect(Field::NarHash)?.hash()?;
        let nar_size = self.lines.expect(Field::NarSize)?.value()?;
        let deriver = self.lines.expect(Field::Deriver)?;
        let deriver = if deriver.text.is_empty() { None } else { Some(deriver.path(&self.store_dir)?) };
        let count = self.lines.expect(Field::ReferenceCount)?.value()?;
        // Not of that capacity: it is a mere claim.
        let mut references: Vec<StorePath> = Vec::new();
        for number in 1..=count {
            references.push(self.lines.expect(Field::Reference { number, count })?.path(&self.store_dir)?);
        }
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.deriver = deriver;
        info.references = references.into_iter().collect();
        Ok(info)
    }
}

impl<R: BufRead> Iterator for Reader<R> {
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
