//! scratch
#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, clippy::allow_attributes_without_reason, missing_docs, clippy::panic)]
use facewire_domain::*; use facewire_inference::*; use facewire_vision::*; use std::path::*;
fn rt()->OnnxRuntime{OnnxRuntime::load(Path::new("/tmp/art/ort/onnxruntime/capi/libonnxruntime.so.1.31.1")).unwrap()}
fn cos(a:&[f32],b:&[f32])->f32{a.iter().zip(b).map(|(x,y)|x*y).sum()}
fn main(){
 let dir=Path::new("/tmp/fw/default"); std::fs::create_dir_all(dir).unwrap();
 let pack=install_builtin("default",Path::new("/tmp/art/package/model"),dir).unwrap();
 println!("{}",pack.fingerprint());
 let rt=rt(); let o=SessionOptions::default();
 let mut finder=pack.finder(&rt,&o).unwrap(); let mut emb=pack.embedder(&rt,&o).unwrap();
 let data=Path::new("/work/shared/data");
 let golden:serde_json::Value=serde_json::from_slice(&std::fs::read(data.join("golden/golden.json")).unwrap()).unwrap();
 let mut chain=vec![];
 for g in golden.as_array().unwrap(){
  let name=g["image"].as_str().unwrap();
  let f=|v:&serde_json::Value|->Vec<f32>{v.as_array().unwrap().iter().map(|x|x.as_f64().unwrap() as f32).collect()};
  let img=decode(&std::fs::read(data.join(name)).unwrap(),&DecodeLimits::default()).unwrap();
  let lm:Vec<Point>=g["landmarks"].as_array().unwrap().iter().map(|p|{let p=f(p);Point::new(p[0],p[1])}).collect();
  let lm:Landmarks=lm.try_into().unwrap();
  let gold=decode(&std::fs::read(data.join("golden").join(g["aligned"].as_str().unwrap())).unwrap(),&DecodeLimits::default()).unwrap();
  let al=align(&img,&lm).unwrap();
  let mad=al.face.as_bytes().iter().zip(gold.data()).map(|(a,b)|(*a as f32-*b as f32).abs()).sum::<f32>()/37632.0;
  let gf=AlignedFace::from_image(gold).unwrap();
  let e=emb.embed(&[gf.clone()]).unwrap();
  let ce=cos(&e[0],&f(&g["embedding_flip"]));
  let ge=f(&g["box"]); 
  let q=signals::blur(&gf)-g["signals"]["blur"].as_f64().unwrap() as f32; let br=signals::brightness(&gf)-g["signals"]["brightness"].as_f64().unwrap() as f32;
  let found=finder.find(&img).unwrap();
  let bd=found.first().map(|x|[x.bbox.x1-ge[0],x.bbox.y1-ge[1],x.bbox.x2-ge[2],x.bbox.y2-ge[3]]);
  let ld=found.first().map(|x|x.landmarks.iter().zip(&lm).map(|(a,b)|a.distance(*b)).fold(0f32,f32::max)/lm[0].distance(lm[1]));
  let c2=found.first().map(|x|{let m=measure(&img,x).unwrap(); let e=emb.embed(&[m.face]).unwrap(); (cos(&e[0],&f(&g["embedding_flip"])), m.quality)});
  chain.push(c2.map(|c|c.0).unwrap_or(0.0));
  println!("{name:40} {}x{} n={} mad={mad:.3} cosE={ce:.6} dblur={q:.3} dbr={br:.5} dbox={bd:.1?} dlm/eye={ld:.3?} chain={:?} res={:.2} fr={:.4}", img.width(),img.height(),found.len(), c2.map(|c|c.0), al.residual, c2.map(|c|c.1.face_ratio).unwrap_or(0.0)-g["signals"]["face_ratio"].as_f64().unwrap() as f32);
 }
 chain.sort_by(f32::total_cmp); println!("median chain {}",chain[chain.len()/2]);
}
