//! The bus against a real nats-server, one for each test.

#[cfg(test)]
mod cluster;
#[cfg(test)]
mod dead;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod erase;
#[cfg(test)]
mod give_back;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod lags;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod migrate;
#[cfg(test)]
mod records;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod world;
