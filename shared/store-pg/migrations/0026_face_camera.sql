-- Which camera's crop a face came with. A crop's row goes after `retain_results`, and a kept face may stay for ever: corrections of a
-- camera are still its own then. Null where it is not known: of faces that an earlier release wrote, for which the crop's row tells it as
-- long as it is there.
SET LOCAL lock_timeout = '5s';
ALTER TABLE faces ADD COLUMN camera text;
