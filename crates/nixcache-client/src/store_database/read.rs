//! Two tables, each read once, merged by the numbers of the paths.

use std::fmt::Display;
use std::ops::ControlFlow;

use nixcache::hash::Hash;
use nixcache::path_info::PathInfo;
use nixcache::store_path::{ContentAddress, HashPart, StorePath, StorePathRef};
use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row, Rows};

use super::{Error, StoreDatabase};

const COLUMNS: &str = "id, path, hash, registrationTime, deriver, narSize, ultimate, sigs, ca";

impl StoreDatabase {
    /// Gives each path to `each`, in the order in which they came into the store, until it breaks
    /// off.
    ///
    /// All are of one instant. Memory is that of the names of all paths, which references are told
    /// by.
    pub fn visit<B>(&self, each: impl FnMut(PathInfo) -> ControlFlow<B>) -> Result<ControlFlow<B>, Error> {
        // The statements see the same state, if they are in one transaction.
        let transaction = self.connection.unchecked_transaction().map_err(|error| self.failed(error))?;
        let flow = self.visit_all(each)?;
        drop(transaction);
        self.check_unchanged()?;
        Ok(flow)
    }

    /// What is known of one path; `None` if the store does not have it.
    pub fn path_info(&self, path: StorePathRef<'_>) -> Result<Option<PathInfo>, Error> {
        self.find("path = ?", [self.store_dir.display(path).to_string()])
    }

    /// What is known of the path with this hash part, which is all that a request for a narinfo
    /// names; `None` if the store has no such path.
    pub fn path_info_by_hash_part(&self, hash_part: HashPart) -> Result<Option<PathInfo>, Error> {
        // A dot comes right after a dash, so that these are the paths that begin with the dash. An
        // index finds them.
        let bounds = ["-", "."].map(|end| format!("{}/{hash_part}{end}", self.store_dir));
        self.find("path >= ? AND path < ? ORDER BY path LIMIT 1", bounds)
    }

    fn visit_all<B>(&self, mut each: impl FnMut(PathInfo) -> ControlFlow<B>) -> Result<ControlFlow<B>, Error> {
        let failed = |error| self.failed(error);
        let names = self.names()?;
        let mut statement =
            self.connection.prepare("SELECT referrer, reference FROM Refs ORDER BY referrer").map_err(failed)?;
        let mut references = References { rows: statement.query([]).map_err(failed)?, next: None };
        references.advance().map_err(failed)?;

        let select = format!("SELECT {COLUMNS} FROM ValidPaths ORDER BY id");
        let mut statement = self.connection.prepare(&select).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut of_path: Vec<StorePath> = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let row = PathRow { database: self, row, id: row.get(0).map_err(failed)? };
            let mut info = row.info()?;
            of_path.clear();
            while let Some((referrer, reference)) = references.next
                && referrer <= row.id
            {
                if referrer == row.id {
                    let path = names.get(reference);
                    of_path.push(path.ok_or_else(|| row.wrong("Refs.reference", &"there is no such path"))?.clone());
                }
                references.advance().map_err(failed)?;
            }
            info.references = of_path.drain(..).collect();
            if let ControlFlow::Break(value) = each(info) {
                return Ok(ControlFlow::Break(value));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn names(&self) -> Result<Names, Error> {
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare("SELECT id, path FROM ValidPaths ORDER BY id").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut names = Names { ids: Vec::new(), paths: Vec::new() };
        while let Some(row) = rows.next().map_err(failed)? {
            let row = PathRow { database: self, row, id: row.get(0).map_err(failed)? };
            names.ids.push(row.id);
            names.paths.push(row.path()?);
        }
        Ok(names)
    }

    /// The path that fulfils a condition.
    fn find<const N: usize>(&self, condition: &str, values: [String; N]) -> Result<Option<PathInfo>, Error> {
        let failed = |error| self.failed(error);
        // The statements see the same state, if they are in one transaction.
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let info = self.find_in_transaction(condition, values)?;
        drop(transaction);
        self.check_unchanged()?;
        Ok(info)
    }

    fn find_in_transaction<const N: usize>(
        &self,
        condition: &str,
        values: [String; N],
    ) -> Result<Option<PathInfo>, Error> {
        let failed = |error| self.failed(error);
        let select = format!("SELECT {COLUMNS} FROM ValidPaths WHERE {condition}");
        let mut statement = self.connection.prepare(&select).map_err(failed)?;
        let found = statement.query_row(rusqlite::params_from_iter(values), |row| {
            let row = PathRow { database: self, row, id: row.get(0)? };
            Ok(row.info().map(|info| (row.id, info)))
        });
        let Some(found) = found.optional().map_err(failed)? else { return Ok(None) };
        let (id, mut info) = found?;
        let select = "SELECT id, path FROM Refs JOIN ValidPaths ON id = reference WHERE referrer = ?";
        let mut statement = self.connection.prepare(select).map_err(failed)?;
        let mut rows = statement.query([id]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let row = PathRow { database: self, row, id: row.get(0).map_err(failed)? };
            info.references.insert(row.path()?);
        }
        Ok(Some(info))
    }

    pub(super) fn failed(&self, error: rusqlite::Error) -> Error {
        Error::from_sqlite(&self.file, error)
    }
}

/// The paths by their numbers.
struct Names {
    /// Ascending.
    ids: Vec<i64>,
    paths: Vec<StorePath>,
}

impl Names {
    fn get(&self, id: i64) -> Option<&StorePath> {
        // Numbers count up, with a gap where a path was deleted: this is where one would be without
        // gaps, and it can only be before that.
        let first = *self.ids.first()?;
        let most = usize::try_from(id.saturating_sub(first)).ok()?.min(self.ids.len() - 1);
        let index = if self.ids[most] == id { most } else { self.ids[..most].binary_search(&id).ok()? };
        self.paths.get(index)
    }
}

/// The references of all paths, by referrer.
struct References<'s> {
    rows: Rows<'s>,
    /// Referrer and reference.
    next: Option<(i64, i64)>,
}

impl References<'_> {
    fn advance(&mut self) -> rusqlite::Result<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        };
        Ok(())
    }
}

/// A row of `ValidPaths`.
struct PathRow<'a, 's> {
    database: &'a StoreDatabase,
    row: &'a Row<'s>,
    id: i64,
}

impl PathRow<'_, '_> {
    fn path(&self) -> Result<StorePath, Error> {
        let path = self.text(1, "ValidPaths.path")?.unwrap_or_default();
        self.store_path(path, "ValidPaths.path")
    }

    /// All but the references.
    fn info(&self) -> Result<PathInfo, Error> {
        let hash = self.text(2, "ValidPaths.hash")?.unwrap_or_default();
        let hash = Hash::parse(hash).map_err(|error| self.wrong("ValidPaths.hash", &error))?;
        let size = self.number(5, "ValidPaths.narSize")?;
        let mut info = PathInfo::new(self.path()?, hash, size);
        // 0 is how the tables say that something is not known.
        info.registration_time = Some(self.number(3, "ValidPaths.registrationTime")?).filter(|time| *time != 0);
        if let Some(deriver) = self.text(4, "ValidPaths.deriver")? {
            info.deriver = Some(self.store_path(deriver, "ValidPaths.deriver")?);
        }
        info.ultimate = self.number(6, "ValidPaths.ultimate")? == 1;
        if let Some(signatures) = self.text(7, "ValidPaths.sigs")? {
            info.signatures = signatures.split_ascii_whitespace().map(str::to_owned).collect();
        }
        if let Some(address) = self.text(8, "ValidPaths.ca")? {
            let address = ContentAddress::parse(address).map_err(|error| self.wrong("ValidPaths.ca", &error))?;
            info.ca = Some(address);
        }
        Ok(info)
    }

    fn store_path(&self, path: &str, column: &'static str) -> Result<StorePath, Error> {
        self.database.store_dir.parse(path).map(StorePath::from).map_err(|error| self.wrong(column, &error))
    }

    /// A text that is not empty.
    fn text(&self, index: usize, column: &'static str) -> Result<Option<&str>, Error> {
        match self.row.get_ref(index).map_err(|error| self.database.failed(error))? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(text) => {
                let text = std::str::from_utf8(text).map_err(|error| self.wrong(column, &error))?;
                Ok(Some(text).filter(|text| !text.is_empty()))
            }
            other => Err(self.wrong(column, &format_args!("expected text, found {}", other.data_type()))),
        }
    }

    /// A number, 0 if there is none.
    fn number(&self, index: usize, column: &'static str) -> Result<u64, Error> {
        match self.row.get_ref(index).map_err(|error| self.database.failed(error))? {
            ValueRef::Null => Ok(0),
            ValueRef::Integer(number) => {
                u64::try_from(number).map_err(|_| self.wrong(column, &format_args!("{number} is negative")))
            }
            other => Err(self.wrong(column, &format_args!("expected a number, found {}", other.data_type()))),
        }
    }

    fn wrong(&self, column: &'static str, reason: &dyn Display) -> Error {
        Error::Value { file: self.database.file.clone(), id: self.id, column, reason: reason.to_string() }
    }
}
