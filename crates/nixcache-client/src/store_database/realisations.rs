//! Realisations of content-addressed outputs, which Nix keeps in tables of their own.
//!
//! The tables exist where Nix ran with `ca-derivations`: `Realisations` and `RealisationsRefs` up
//! to Nix 2.34, `BuildTraceV3` from 2.35. A database that both versions used has all of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;

use nixcache::realisation::{BuildTraceEntry, BuildTraceKey, CachedRealisation, OutputId, OutputName, Realisation};
use nixcache::store_path::{StorePath, StorePathRef};
use rusqlite::Row;

use super::{Error, StoreDatabase};

impl StoreDatabase {
    /// The realisations of the output paths that `wanted` accepts, in the form in which Nix
    /// registered each: by the hash of the derivation up to Nix 2.34, by its store path from 2.35.
    ///
    /// A row that cannot be read is reported as a warning and left out. As in Nix, the first of
    /// several rows about one output counts.
    pub fn realisations(&self, wanted: impl Fn(StorePathRef<'_>) -> bool) -> Result<Vec<CachedRealisation>, Error> {
        let transaction = self.connection.unchecked_transaction().map_err(|error| self.failed(error))?;
        let mut found = Vec::new();
        if self.has_table("Realisations")? {
            self.keyed_by_hash(&wanted, &mut found)?;
        }
        if self.has_table("BuildTraceV3")? {
            self.build_trace(&wanted, &mut found)?;
        }
        drop(transaction);
        self.check_unchanged()?;
        Ok(found)
    }

    fn has_table(&self, name: &str) -> Result<bool, Error> {
        let select = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?";
        let count: i64 =
            self.connection.query_row(select, [name], |row| row.get(0)).map_err(|error| self.failed(error))?;
        Ok(count > 0)
    }

    fn keyed_by_hash(
        &self,
        wanted: &impl Fn(StorePathRef<'_>) -> bool,
        found: &mut Vec<CachedRealisation>,
    ) -> Result<(), Error> {
        const SELECT: &str = "SELECT Realisations.id, drvPath, outputName, path, signatures FROM Realisations
            JOIN ValidPaths ON ValidPaths.id = outputPath ORDER BY Realisations.id";
        let read = |row: &Row<'_>| -> Result<(i64, Realisation), String> {
            let number = row.get(0).map_err(text)?;
            let id = output_id(row, 1)?;
            let mut realisation = Realisation::new(id, self.full_path(row, 3)?);
            realisation.signatures = signatures(row, 4)?;
            Ok((number, realisation))
        };
        let mut of_row: Vec<(i64, Realisation)> = Vec::new();
        let mut seen = HashSet::new();
        self.each_row("Realisations", SELECT, |row| {
            let (number, realisation) = read(row)?;
            if wanted(realisation.out_path.as_ref()) && seen.insert(realisation.id.clone()) {
                of_row.push((number, realisation));
            }
            Ok(())
        })?;
        let mut dependencies = self.dependencies()?;
        found.extend(of_row.into_iter().map(|(number, mut realisation)| {
            realisation.dependencies = dependencies.remove(&number).unwrap_or_default();
            CachedRealisation::KeyedByHash(realisation)
        }));
        Ok(())
    }

    /// What realisations refer to, by their numbers. Nix 2.34 has the table, and writes nothing
    /// into it.
    fn dependencies(&self) -> Result<HashMap<i64, BTreeMap<OutputId, StorePath>>, Error> {
        const SELECT: &str = "SELECT referrer, drvPath, outputName, path FROM RealisationsRefs
            JOIN Realisations ON Realisations.id = realisationReference
            JOIN ValidPaths ON ValidPaths.id = outputPath";
        let mut found: HashMap<i64, BTreeMap<OutputId, StorePath>> = HashMap::new();
        if self.has_table("RealisationsRefs")? {
            self.each_row("RealisationsRefs", SELECT, |row| {
                let referrer = row.get(0).map_err(text)?;
                let dependency = (output_id(row, 1)?, self.full_path(row, 3)?);
                found.entry(referrer).or_default().extend([dependency]);
                Ok(())
            })?;
        }
        Ok(found)
    }

    fn build_trace(
        &self,
        wanted: &impl Fn(StorePathRef<'_>) -> bool,
        found: &mut Vec<CachedRealisation>,
    ) -> Result<(), Error> {
        const SELECT: &str = "SELECT drvPath, outputName, outputPath, signatures FROM BuildTraceV3 ORDER BY id";
        let mut seen = HashSet::new();
        self.each_row("BuildTraceV3", SELECT, |row| {
            let derivation = StorePath::parse(&string(row, 0)?).map_err(text)?;
            let key = BuildTraceKey { derivation, output: OutputName::parse(&string(row, 1)?).map_err(text)? };
            let mut entry = BuildTraceEntry::new(key, self.full_path(row, 2)?);
            entry.signatures = signatures(row, 3)?;
            if wanted(entry.out_path.as_ref()) && seen.insert(entry.key.clone()) {
                found.push(CachedRealisation::BuildTrace(entry));
            }
            Ok(())
        })
    }

    /// Shows each row to `take`. What that cannot read is left out, with a warning.
    fn each_row(
        &self,
        table: &str,
        select: &str,
        mut take: impl FnMut(&Row<'_>) -> Result<(), String>,
    ) -> Result<(), Error> {
        let failed = |error| self.failed(error);
        let mut statement = self.connection.prepare(select).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            if let Err(reason) = take(row) {
                tracing::warn!("{}: a row of {table} is left out: {reason}", self.file.display());
            }
        }
        Ok(())
    }

    fn full_path(&self, row: &Row<'_>, column: usize) -> Result<StorePath, String> {
        self.store_dir.parse(&string(row, column)?).map(StorePath::from).map_err(text)
    }
}

fn output_id(row: &Row<'_>, column: usize) -> Result<OutputId, String> {
    OutputId::parse(&format!("{}!{}", string(row, column)?, string(row, column + 1)?)).map_err(text)
}

fn string(row: &Row<'_>, column: usize) -> Result<String, String> {
    row.get(column).map_err(text)
}

fn signatures(row: &Row<'_>, column: usize) -> Result<std::collections::BTreeSet<String>, String> {
    let text: Option<String> = row.get(column).map_err(text)?;
    Ok(text.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect())
}

fn text(error: impl Display) -> String {
    error.to_string()
}
