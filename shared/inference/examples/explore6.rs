//! scratch: timing
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_inference::*; use facewire_vision::*; use std::path::*; use std::time::*;
fn rss()->u64{std::fs::read_to_string("/proc/self/status").unwrap().lines().find(|l|l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()/1024}
fn cpu()->f64{let s=std::fs::read_to_string("/proc/self/stat").unwrap(); let f:Vec<&str>=s.rsplit(')').next().unwrap().split_whitespace().collect(); (f[11].parse::<f64>().unwrap()+f[12].parse::<f64>().unwrap())*10.0}
fn t(name:&str,n:u32,mut f:impl FnMut()){f(); let c=cpu(); let s=Instant::now(); for _ in 0..n{f()} println!("{name}: {:.3} ms wall, {:.3} ms cpu",s.elapsed().as_secs_f64()*1e3/n as f64,(cpu()-c)/n as f64);}
fn main(){
 println!("rss start {} MB",rss());
 let rt=OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap(); println!("rss runtime {} MB",rss());
 let pack=Pack::open(Path::new("/tmp/fw/default")).unwrap(); let o=SessionOptions::default();
 let s=Instant::now(); let mut f1=pack.finder(&rt,&o).unwrap(); println!("finder load {:?} rss {}",s.elapsed(),rss());
 let mut f2=pack.finder(&rt,&o).unwrap(); let s=Instant::now(); let mut e1=pack.embedder(&rt,&o).unwrap(); println!("embedder load {:?} rss {}",s.elapsed(),rss()); let mut e2=pack.embedder(&rt,&o).unwrap(); println!("rss loaded 2+2 {}",rss());
 let bytes=std::fs::read("/work/shared/data/pairs/img10.jpg").unwrap(); let img=decode(&bytes,&DecodeLimits::default()).unwrap();
 let spec=pack.manifest().detector.clone(); let mut det=Rfb320::new(rt.open(Path::new("/tmp/fw/default/fr_detect.onnx"),&o).unwrap(),&spec); let mut lm=LandmarkModel::new(rt.open(Path::new("/tmp/fw/default/fr_landmark.onnx"),&o).unwrap());
 let f=f1.find(&img).unwrap()[0]; let m=measure(&img,&f).unwrap();
 println!("image {}x{}",img.width(),img.height());
 t("probe",2000,||{probe(&bytes).unwrap();}); t("decode 408x594",200,||{decode(&bytes,&DecodeLimits::default()).unwrap();});
 t("detect",200,||{det.detect(&img).unwrap();}); t("landmarks",500,||{lm.find(&img,&f.bbox).unwrap();}); t("drift",500,||{lm.drift(&img,&f.landmarks).unwrap();}); t("find",200,||{f1.find(&img).unwrap();});
 let tight=degrade::cut_out(&img,&f.bbox,0.0); t("find tight",200,||{f2.find(&tight).unwrap();});
 t("align",2000,||{align(&img,&f.landmarks).unwrap();}); t("align+signals",1000,||{measure(&img,&f).unwrap();}); t("embed flip",100,||{e1.embed(std::slice::from_ref(&m.face)).unwrap();}); e2.embed(std::slice::from_ref(&m.face)).unwrap();
 let big=decode(&std::fs::read("/work/shared/data/pairs/img4.jpg").unwrap(),&DecodeLimits::default()).unwrap(); t("find 2500x1728",50,||{f1.find(&big).unwrap();});
 println!("rss after {} MB",rss());
}
