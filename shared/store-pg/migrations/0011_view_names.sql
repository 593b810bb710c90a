-- The field's words: a failure is current until a replay replaces it; a signal is decisive if it ended the face.
ALTER VIEW facewire_failures RENAME COLUMN stands TO is_current;
ALTER VIEW facewire_signals RENAME COLUMN broke TO decisive;
